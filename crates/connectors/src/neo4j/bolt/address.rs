//! The address of a server.

/// Accepted URL schemes; `+s` is TLS with certificate verification. `+ssc` is not accepted, because it verifies
/// nothing.
const SCHEMES: [&str; 4] = ["bolt", "bolt+s", "neo4j", "neo4j+s"];

const PORT: u16 = 7687;

/// Host, port, and whether TLS is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Address {
    /// A name, or an IP address without brackets.
    pub(in super::super) host: String,
    pub(super) port: u16,
    pub(in super::super) tls: bool,
}

impl Address {
    /// Parses a URL with one of the [`SCHEMES`]. The message does not quote the URL, because it may contain a password.
    pub(in super::super) fn parse(url: &str) -> Result<Self, String> {
        let scheme_and_rest = url.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme));
        let Some((scheme, rest)) = scheme_and_rest else {
            return Err(format!("invalid URL; it must begin with {}://", SCHEMES.join(":// or ")));
        };
        if rest.contains('@') {
            return Err("the URL contains a user name or password; remove it and set `user` and `password`".to_owned());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of an IPv6 address without a port is inside of the brackets.
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| format!("invalid URL; `{port}` is not a port number"))?;
                (host, port)
            }
            _ => (authority, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("invalid URL; it has no host name".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, tls: scheme.ends_with("+s") })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn host_port_and_security_come_from_the_url() {
        let parse = |url: &str| Address::parse(url).map(|Address { host, port, tls }| (host, port, tls));
        let address = |host: &str, port, tls| Ok((host.to_owned(), port, tls));
        assert_eq!(parse("bolt://localhost"), address("localhost", 7687, false));
        assert_eq!(parse("neo4j+s://db.example.org:7688/?x=1"), address("db.example.org", 7688, true));
        assert_eq!(parse("bolt+s://[::1]:1234"), address("::1", 1234, true));
        assert_eq!(parse("bolt://[::1]"), address("::1", 7687, false));
        for wrong in ["bolt+ssc://localhost", "http://localhost", "localhost:7687", "bolt://", "bolt://h:port"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(!parse("bolt://me:hunter2@localhost").unwrap_err().contains("hunter2"));
    }
}
