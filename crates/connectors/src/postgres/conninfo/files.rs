//! The password file and the service file.

use super::syntax::Pair;
use super::{Host, Refused};

/// What a line of the password file must match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The name by which the password file knows a host: a default socket is `localhost`.
pub(super) fn known_as(host: &Host, sockets: &std::path::Path) -> String {
    match host {
        Host::Tcp { name, .. } => name.clone(),
        Host::Unix(directory) if directory == sockets => "localhost".to_owned(),
        Host::Unix(directory) => directory.display().to_string(),
    }
}

/// The password of the first line `host:port:database:user:password` that matches; `*` matches everything. A backslash
/// takes the next character literally.
pub(super) fn password(file: &str, login: Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    file.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [parts @ .., password] = fields.as_slice() else { return None };
        let matches = parts.len() == wanted.len()
            && parts.iter().zip(wanted).all(|(part, wanted)| part.raw == "*" || part.value == wanted);
        matches.then(|| password.value.clone())
    })
}

struct Field {
    raw: String,
    value: String,
}

/// The first five fields; the last one ends with the line.
fn fields(line: &str) -> Vec<Field> {
    let mut fields = vec![Field { raw: String::new(), value: String::new() }];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else { break };
        match c {
            '\\' => {
                let next = chars.next();
                field.value.extend(next);
                field.raw.push('\\');
                field.raw.extend(next);
            }
            ':' if count < 5 => fields.push(Field { raw: String::new(), value: String::new() }),
            c => {
                field.value.push(c);
                field.raw.push(c);
            }
        }
    }
    fields
}

/// The settings of a service: the lines below `[name]`.
pub(super) fn service(file: &str, name: &str) -> Result<Option<Vec<Pair>>, Refused> {
    let mut found = None;
    for line in file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (section == name).then(Vec::new);
        } else if let Some(pairs) = &mut found {
            let wrong = || Refused(format!("the service `{name}` has a line without `=`; write keyword=value"));
            let (keyword, value) = line.split_once('=').ok_or_else(wrong)?;
            if keyword == "service" {
                return Err(Refused(format!("the service `{name}` names another service; write its settings there")));
            }
            pairs.push((keyword.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}
