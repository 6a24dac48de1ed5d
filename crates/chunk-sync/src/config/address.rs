//! The address of a server: a URL whose password is never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A URL. `Display` and `Debug` print `***` in place of the password.
#[derive(Clone)]
pub struct Address {
    url: SecretString,
    shown: String,
    host: String,
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
        let host = host(place).ok_or("has no valid host and port; write them as localhost:6379")?;
        if path.to_lowercase().contains("password=") {
            return Err("has a password among the options; write it before the host, as user:password@host".to_owned());
        }
        let shown = match user.map(|user| user.split_once(':').map_or(user, |(name, _)| name)) {
            Some(name) if user.is_some_and(|user| user.contains(':')) => {
                format!("{scheme}://{name}:***@{place}{path}")
            }
            _ => text.to_owned(),
        };
        Ok(Self { url: text.into(), shown, host: host.to_owned() })
    }

    /// The whole URL, including the password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// The host of `host`, `host:port` or `[address]:port`.
fn host(place: &str) -> Option<&str> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let sound = !host.is_empty() && host.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let port = port.is_empty() || port.strip_prefix(':')?.parse::<u16>().is_ok();
    (sound && port).then_some(host)
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
        assert_eq!(address.host(), "db");
    }

    #[test]
    fn a_password_without_a_user_is_not_printed() {
        let address = Address::parse("redis://:hunter2@[::1]:6379", &["redis"]).unwrap();
        assert_eq!(address.to_string(), "redis://:***@[::1]:6379");
        assert_eq!(address.host(), "::1");
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
