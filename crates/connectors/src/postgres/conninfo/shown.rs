//! A connection string as it may be printed.

use std::fmt;

use super::syntax::{self, Pair};
use super::{Refused, hosts, keywords};

pub(super) const HIDDEN: &str = "***";

/// Keywords whose values are secrets.
pub(super) const SECRETS: [&str; 5] =
    ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

/// The string with `***` in place of every secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Checks form, keywords and values without reading any file or variable.
    ///
    /// # Errors
    /// The problem and what to write instead, without the string.
    pub fn of(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let pairs = syntax::pairs(text).map_err(|Refused(message)| message)?;
        for (name, value) in &pairs {
            keywords::check(name, value, None).map_err(|Refused(message)| message)?;
            // As ADO.NET writes it: the first value would contain the other settings, the password among them.
            if !SECRETS.contains(&name.as_str()) && value.to_lowercase().contains("password=") {
                return Err(
                    "a value contains another setting; separate keywords by blanks, not by semicolons".to_owned()
                );
            }
            if name == "port" {
                // Of a URL without a host the password stands where the port is.
                hosts::check_ports(value).map_err(|Refused(message)| message)?;
            }
        }
        Ok(Self(if syntax::is_url(text) { url(text, &pairs) } else { words(&pairs) }))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL as written, except for its secrets.
fn url(text: &str, pairs: &[Pair]) -> String {
    let rest = syntax::after_scheme(text).unwrap_or_default();
    let scheme = &text[..text.len() - rest.len()];
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = match authority.split_once('@') {
        Some((user, endpoints)) => match user.split_once(':') {
            Some((_, "")) | None => authority.to_owned(),
            Some((user, _)) => format!("{user}:{HIDDEN}@{endpoints}"),
        },
        None => authority.to_owned(),
    };
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let is_secret = |name: &str| syntax::decoded(name).is_ok_and(|name| SECRETS.contains(&name.as_str()));
    let query: Vec<String> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
            _ => parameter.to_owned(),
        })
        .collect();
    let mark = if query.is_empty() || pairs.is_empty() { "" } else { "?" };
    format!("{scheme}{authority}{path}{mark}{}", query.join("&"))
}

fn words(pairs: &[Pair]) -> String {
    let word = |(name, value): &Pair| {
        let value = if SECRETS.contains(&name.as_str()) { HIDDEN } else { value };
        let is_plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\');
        match is_plain {
            true => format!("{name}={value}"),
            false => format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
        }
    };
    pairs.iter().map(word).collect::<Vec<_>>().join(" ")
}
