//! The address of a server: a URL whose password is never printed.

use std::fmt;

use chunk_sync_connectors::postgres::Shown;
use secrecy::{ExposeSecret, SecretString};

/// A URL. `Display` and `Debug` print `***` in place of the password.
#[derive(Clone)]
pub struct Address {
    url: SecretString,
    shown: String,
}

impl Address {
    /// Parses a URL with one of these schemes.
    ///
    /// # Errors
    /// A message, without the URL: another scheme, no host, an invalid port or IPv6 address, an `@` after the host, or a
    /// password among the options.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let wanted = || format!("must be a URL that begins with {}://", schemes.join(":// or "));
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        if !schemes.contains(&scheme) {
            return Err(wanted());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('@') {
            return Err("contains an @ after the host; write / ? # and @ in a password as %2F %3F %23 %40".to_owned());
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if !has_host(place) {
            return Err("has no valid host and port; write them as localhost:6379".to_owned());
        }
        if path.to_lowercase().contains("password=") {
            return Err("has a password among the options; write it before the host, as user:password@host".to_owned());
        }
        let account = match user.map(|user| user.split_once(':')) {
            None => String::new(),
            Some(Some((name, _))) => format!("{name}:***@"),
            // Users write a key or a token without a name there.
            Some(None) => "***@".to_owned(),
        };
        Ok(Self { url: text.into(), shown: format!("{scheme}://{account}{place}{}", without_values(path)) })
    }

    /// Parses a connection string of PostgreSQL, by the rules of libpq.
    ///
    /// # Errors
    /// A message, without the string: its form, or an option that is not supported, with what to write instead.
    pub fn postgres(text: &str) -> Result<Self, String> {
        Ok(Self { shown: Shown::of(text)?.to_string(), url: text.into() })
    }

    /// The whole URL, including the password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }
}

/// A path with its options. Their values may be keys and tokens, so they are replaced.
fn without_values(path: &str) -> String {
    let Some((path, options)) = path.split_once('?') else { return path.to_owned() };
    let (options, fragment) = options.split_at(options.find('#').unwrap_or(options.len()));
    let option = |option: &str| match option.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    format!("{path}?{}{fragment}", options.split('&').map(option).collect::<Vec<_>>().join("&"))
}

/// Whether this is `host`, `host:port` or `[address]:port`.
fn has_host(place: &str) -> bool {
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return false,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let is_sound = !host.is_empty() && host.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    is_sound && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_is_kept_but_not_printed() {
        let address = Address::parse("redis://me:hunter2@db:6379/0", &["redis", "rediss"]).unwrap();
        assert_eq!(address.to_string(), "redis://me:***@db:6379/0");
        assert_eq!(format!("{address:?}"), "redis://me:***@db:6379/0");
        assert_eq!(address.expose(), "redis://me:hunter2@db:6379/0");
    }

    #[test]
    fn a_password_without_a_user_is_not_printed() {
        let address = Address::parse("redis://:hunter2@[::1]:6379", &["redis"]).unwrap();
        assert_eq!(address.to_string(), "redis://:***@[::1]:6379");
    }

    #[test]
    fn a_key_without_a_user_and_values_of_options_are_not_printed() {
        for (url, shown) in [
            ("https://hunter2@h:6334", "https://***@h:6334"),
            ("https://h/path?api_key=hunter2&hunter2#part", "https://h/path?api_key=***&***#part"),
            ("https://h#insecure", "https://h#insecure"),
        ] {
            assert_eq!(Address::parse(url, &["https"]).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_connection_string_of_postgresql_has_the_forms_of_libpq() {
        for (text, shown) in [
            ("postgres:///db?host=/var/run/postgresql", "postgres:///db?host=/var/run/postgresql"),
            ("postgres://u:hunter2@a:1,b:2/db", "postgres://u:***@a:1,b:2/db"),
            ("host=a,b password=hunter2 dbname=db", "host=a,b password=*** dbname=db"),
        ] {
            let address = Address::postgres(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.expose()), (shown, text));
        }
        let error = Address::postgres("postgres://u:hunter2@a/db?pgbouncer=true").unwrap_err();
        assert!(error.contains("pgbouncer") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_invalid_address_is_rejected_without_printing_it() {
        for text in [
            "hunter2",
            "http://hunter2:1",
            "redis://",
            "redis://h:hunter2",
            "redis://u:hunter2@x:99999",
            "redis://u:hun/ter2@x",
            "redis://h/?password=hunter2",
            "redis://[hunter2]:1",
        ] {
            let error = Address::parse(text, &["redis"]).unwrap_err();
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}
