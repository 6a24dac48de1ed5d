//! The address of a server, and what its URL's scheme means.
//!
//! | scheme | connection | server |
//! |---|---|---|
//! | `bolt`, `neo4j` | plain | the named one; with `neo4j` the leader that it names |
//! | `bolt+s`, `neo4j+s` | TLS, the certificate is verified | the same |
//! | `bolt+ssc`, `neo4j+ssc` | TLS with any certificate: the server may be another one | the same |

/// Accepted URL schemes.
const SCHEMES: [&str; 6] = ["bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"];

const PORT: u16 = 7687;

/// The security of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Security {
    Plain,
    /// TLS whose certificate is not verified.
    Unverified,
    /// TLS whose certificate is verified.
    Verified,
}

/// Host, port and security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Address {
    /// A name, or an IP address without brackets.
    pub(in super::super) host: String,
    pub(super) port: u16,
    pub(in super::super) security: Security,
    /// Whether the server is asked for the leader.
    pub(in super::super) routed: bool,
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
        let (base, security) = match scheme.split_once('+') {
            Some((base, "s")) => (base, Security::Verified),
            Some((base, _)) => (base, Security::Unverified),
            None => (scheme, Security::Plain),
        };
        let any = Self { host: String::new(), port: PORT, security, routed: base == "neo4j" };
        any.at(authority)
    }

    /// The same with another host and port, as in `host:port`, `[::1]:port` or `host`.
    pub(in super::super) fn at(&self, authority: &str) -> Result<Self, String> {
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of an IPv6 address without a port is inside of the brackets.
            Some((host, port)) if !port.ends_with(']') => {
                // The text may be a password, of a URL without an @.
                let port =
                    port.parse().map_err(|_| "invalid URL; the text after the last colon is not a port number")?;
                (host, port)
            }
            _ => (authority, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("invalid URL; it has no host name".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, ..self.clone() })
    }

    /// Host and port, as a server names them in its routing table.
    pub(in super::super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn host_port_and_security_come_from_the_url() {
        let parse = |url: &str| Address::parse(url);
        let address =
            |host: &str, port, security, routed| Ok(Address { host: host.to_owned(), port, security, routed });
        assert_eq!(parse("bolt://localhost"), address("localhost", 7687, Security::Plain, false));
        let routed = address("db.example.org", 7688, Security::Verified, true);
        assert_eq!(parse("neo4j+s://db.example.org:7688/?x=1"), routed);
        assert_eq!(parse("bolt+s://[::1]:1234"), address("::1", 1234, Security::Verified, false));
        assert_eq!(parse("neo4j+ssc://[::1]"), address("::1", 7687, Security::Unverified, true));
        assert_eq!(parse("bolt://[::1]").unwrap().authority(), "[::1]:7687");
        for wrong in ["bolt+x://localhost", "http://localhost", "localhost:7687", "bolt://", "bolt://h:port"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for secret in ["bolt://me:hunter2@localhost", "bolt://me:hunter2", "neo4j+s://me:hunter2/x", "hunter2://h"] {
            assert!(!parse(secret).unwrap_err().contains("hunter2"), "{secret}");
        }
    }
}
