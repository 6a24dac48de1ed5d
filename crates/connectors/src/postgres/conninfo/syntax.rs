//! The two forms of a connection string. Yields keywords and values in order; a later value replaces an earlier one.

use super::Refused;

/// Keyword and value.
pub(super) type Pair = (String, String);

/// Whether the string is a URL.
pub(super) fn is_url(text: &str) -> bool {
    after_scheme(text).is_some()
}

/// The part of a URL after its scheme.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// Parses either form.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, Refused> {
    if let Some(rest) = after_scheme(text) {
        return url(rest);
    }
    let before = text.split_once("://").map(|(before, _)| before);
    if before.is_some_and(|scheme| !scheme.contains(|c: char| c == '=' || c.is_whitespace())) {
        return Err(Refused(
            "the URL has another scheme; write postgres://user:password@host:5432/database, without a driver such as \
             `+asyncpg` and without `jdbc:`"
                .to_owned(),
        ));
    }
    if !text.contains('=') {
        return Err(Refused(
            "this is neither a URL nor a list of keywords; write postgres://user:password@host:5432/database, or \
             host=… dbname=… user=…"
                .to_owned(),
        ));
    }
    let pairs = keywords(text)?;
    // The URL may contain a password, and the values of these keywords are printed.
    if pairs.iter().any(|(name, value)| PRINTED.contains(&name.as_str()) && value.contains("://")) {
        return Err(Refused("the value of a keyword is a URL; write the URL alone, or keywords alone".to_owned()));
    }
    Ok(pairs)
}

/// Keywords whose values errors name.
const PRINTED: [&str; 5] = ["host", "hostaddr", "port", "dbname", "user"];

/// A URL without its scheme: `user:password@host:port,host:port/database?keyword=value&…`.
pub(super) fn url(rest: &str) -> Result<Vec<Pair>, Refused> {
    let mut pairs = Vec::new();
    let mut add = |name: &str, value: &str| -> Result<(), Refused> {
        if !value.is_empty() {
            pairs.push((name.to_owned(), decoded(value)?));
        }
        Ok(())
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let endpoints = match authority.split_once('@') {
        Some((user, endpoints)) => {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            add("user", user)?;
            add("password", password)?;
            endpoints
        }
        None => authority,
    };
    let (hosts, ports) = places_of(endpoints, tail)?;
    add("host", &hosts)?;
    add("port", &ports)?;
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    add("dbname", path.strip_prefix('/').unwrap_or_default())?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let wrong =
            || Refused("an option of the URL has not the form keyword=value; write %3D for = in a value".into());
        let (name, value) = parameter.split_once('=').ok_or_else(wrong)?;
        if value.contains('=') {
            return Err(wrong());
        }
        let (name, value) = (decoded(name)?, decoded(value)?);
        // As JDBC writes it.
        let (name, value) =
            if name == "ssl" && value == "true" { ("sslmode".into(), "require".into()) } else { (name, value) };
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// The list of hosts and the list of ports, separated by commas. Brackets around an IPv6 address are removed.
fn places_of(endpoints: &str, tail: &str) -> Result<(String, String), Refused> {
    if endpoints.contains('@') || tail.split('?').next().is_some_and(|path| path.contains('@')) {
        return Err(Refused(
            "the URL has more than one @; write / ? # and @ in a password as %2F %3F %23 and %40".to_owned(),
        ));
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for endpoint in endpoints.split(',') {
        let (host, port) = match endpoint.strip_prefix('[') {
            Some(rest) => {
                let end = || Refused("an IPv6 address in the URL has no closing bracket; write [::1]:5432".to_owned());
                let (host, port) = rest.split_once(']').ok_or_else(end)?;
                if host.is_empty() || !(port.is_empty() || port.starts_with(':')) {
                    return Err(Refused("the IPv6 address of the URL is not valid; write [::1]:5432".to_owned()));
                }
                (host, port.trim_start_matches(':'))
            }
            None => endpoint.split_once(':').unwrap_or((endpoint, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    // A single empty host or port is an absent one.
    Ok((hosts.join(","), ports.join(",")))
}

/// Decodes `%XX`.
pub(super) fn decoded(text: &str) -> Result<String, Refused> {
    let wrong = || {
        Refused(
            "a % in the URL does not begin two hexadecimal digits, or stands for no UTF-8; write %25 for %".to_owned(),
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low);
                (byte.filter(|byte| *byte != 0).ok_or_else(wrong)?, after)
            }
            (b'%', _) => return Err(wrong()),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The form `keyword = value keyword = 'value with blanks'`. A backslash takes the next character literally.
pub(super) fn keywords(text: &str) -> Result<Vec<Pair>, Refused> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start().strip_prefix('=').ok_or_else(|| {
            Refused(
                "a keyword has no `=`; write keyword=value, and quote values with blanks: password='a b'".to_owned(),
            )
        })?;
        let (value, after) = value(after.trim_start())?;
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A value and what follows it.
fn value(text: &str) -> Result<(String, &str), Refused> {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut chars = quoted.unwrap_or(text).char_indices();
    let body = quoted.unwrap_or(text);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, next)| next)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            c if quoted.is_none() && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    match quoted {
        Some(_) => Err(Refused("a quoted value has no closing quote; write ' in a value as \\'".to_owned())),
        None => Ok((value, "")),
    }
}
