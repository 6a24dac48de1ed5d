//! How a server of the list may be reached: in which order with and without TLS, and which certificate is accepted.

use chunk_sync_engine::ports::{Fault, FaultClass};
use secrecy::ExposeSecret;

use crate::postgres::config::CONTEXT;
use crate::postgres::conninfo::{ConnInfo, Endpoint, Host, Mode, Roots};
use crate::postgres::tls::{Tls, Verification};
use crate::remote::insecure;

/// The permitted ways to one server.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct Way {
    order: Order,
    /// `None` where the connection is never encrypted.
    tls: Option<Tls>,
}

/// In which order the ways are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Order {
    Plain,
    PlainThenTls,
    TlsIfOfferedThenPlain,
    Tls,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(in crate::postgres) enum Encryption<'a> {
    Plain,
    /// TLS if the server offers it.
    Offered(&'a Tls),
    Required(&'a Tls),
}

impl Way {
    /// The ways to `endpoint`.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) for a connection off this machine without verified TLS or without
    /// credentials, unless `allow_insecure`, and for unusable certificates.
    pub(super) fn of(info: &ConnInfo, endpoint: &Endpoint, allow_insecure: bool) -> Result<Self, Fault> {
        let (order, verification) = wanted(info, endpoint, allow_insecure)?;
        let tls = match (&endpoint.host, order) {
            (_, Order::Plain) | (Host::Unix(_), _) => None,
            (Host::Tcp { name, .. }, _) => {
                let made = Tls::new(&info.tls, verification, name);
                Some(made.map_err(|message| Fault::new(FaultClass::Misconfigured, CONTEXT, message))?)
            }
        };
        Ok(Self { order, tls })
    }

    /// The attempts in their order.
    pub(super) fn encryptions(&self) -> Vec<Encryption<'_>> {
        use Encryption::{Offered, Plain, Required};
        match (self.order, &self.tls) {
            (_, None) | (Order::Plain, _) => vec![Plain],
            (Order::PlainThenTls, Some(tls)) => vec![Plain, Required(tls)],
            (Order::TlsIfOfferedThenPlain, Some(tls)) => vec![Offered(tls), Plain],
            (Order::Tls, Some(tls)) => vec![Required(tls)],
        }
    }
}

/// Order and verification by the mode of the string and the host of the server.
pub(in crate::postgres) fn wanted(
    info: &ConnInfo,
    endpoint: &Endpoint,
    allow_insecure: bool,
) -> Result<(Order, Verification), Fault> {
    if matches!(endpoint.host, Host::Unix(_)) {
        return Ok((Order::Plain, Verification::Off));
    }
    let verification = by_libpq(info.tls.mode.unwrap_or_default(), &info.tls.roots);
    // A server on this machine may have a certificate for another name: unencrypted, unless it or the string demands more.
    let mode = match info.tls.mode {
        None if endpoint.host.is_local() => Mode::Allow,
        None => Mode::Require,
        Some(mode) => mode,
    };
    let order = match mode {
        Mode::Disable => Order::Plain,
        Mode::Allow => Order::PlainThenTls,
        Mode::Prefer => Order::TlsIfOfferedThenPlain,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => Order::Tls,
    };
    if endpoint.host.is_local() {
        return Ok((order, verification));
    }
    let Host::Tcp { name, .. } = &endpoint.host else { return Ok((order, verification)) };
    let refuse = |missing| insecure(CONTEXT, name, missing, REMEDY, allow_insecure);
    if mode == Mode::Disable {
        refuse("verified TLS (sslmode=disable)")?;
        return Ok((order, verification));
    }
    let has_password = endpoint.password.as_ref().is_some_and(|password| !password.expose_secret().is_empty());
    if !has_password && info.tls.client.is_none() {
        refuse("password or client certificate")?;
    }
    // A mode that was not written is never weak; one that was written is, where that is permitted.
    if allow_insecure && info.tls.mode.is_some() {
        if verification == Verification::Off || order != Order::Tls {
            refuse("verified TLS")?;
        }
        return Ok((order, verification));
    }
    let raised = if verification == Verification::Off { Verification::Full } else { verification };
    Ok((Order::Tls, raised))
}

const REMEDY: &str = "sslmode=verify-full with a password";

/// What libpq verifies. Without a file of certificates it refuses `verify-ca` and `verify-full`; here those of the system
/// serve, but then for the name as well.
fn by_libpq(mode: Mode, roots: &Roots) -> Verification {
    match (mode, roots) {
        (Mode::VerifyFull, _) | (Mode::VerifyCa, Roots::Unnamed | Roots::System) => Verification::Full,
        (_, Roots::File(_)) => Verification::Chain,
        _ => Verification::Off,
    }
}

#[cfg(test)]
mod providers;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::postgres::conninfo::{Surroundings, resolve};

    fn way(text: &str, allow_insecure: bool) -> Result<(Order, Verification), Fault> {
        let around = Surroundings { user: Some("me".to_owned()), sockets: "/run".into(), ..Surroundings::default() };
        let info = resolve(text, &around).unwrap();
        info.endpoints.iter().map(|endpoint| wanted(&info, endpoint, allow_insecure)).next_back().unwrap()
    }

    #[test]
    fn this_machine_gets_what_the_string_demands() {
        use Verification::{Chain, Full, Off};
        for (text, expected) in [
            ("postgres://me@127.0.0.1/db", (Order::PlainThenTls, Off)),
            ("postgres://me@[::1]/db?sslmode=disable", (Order::Plain, Off)),
            ("postgres://me@localhost/db?sslmode=prefer", (Order::TlsIfOfferedThenPlain, Off)),
            ("postgres://me@localhost/db?sslmode=require", (Order::Tls, Off)),
            ("postgres://me@localhost/db?sslmode=require&sslrootcert=/ca", (Order::Tls, Chain)),
            ("postgres://me@localhost/db?sslmode=verify-ca&sslrootcert=/ca", (Order::Tls, Chain)),
            ("postgres://me@localhost/db?sslmode=verify-full&sslrootcert=/ca", (Order::Tls, Full)),
            ("postgres://me@localhost/db?sslmode=verify-full", (Order::Tls, Full)),
            ("postgres://me@localhost/db?sslmode=verify-ca", (Order::Tls, Full)),
            ("postgres:///db?host=/sock&sslmode=verify-full", (Order::Plain, Off)),
        ] {
            assert_eq!(way(text, false).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn another_machine_gets_verified_tls_whatever_weaker_mode_is_written() {
        use Verification::{Chain, Full, Off};
        for (options, strict, allowed) in [
            ("", (Order::Tls, Full), (Order::Tls, Full)),
            ("?sslmode=allow", (Order::Tls, Full), (Order::PlainThenTls, Off)),
            ("?sslmode=prefer", (Order::Tls, Full), (Order::TlsIfOfferedThenPlain, Off)),
            ("?sslmode=require", (Order::Tls, Full), (Order::Tls, Off)),
            ("?sslmode=require&sslrootcert=/ca", (Order::Tls, Chain), (Order::Tls, Chain)),
            ("?sslmode=verify-full", (Order::Tls, Full), (Order::Tls, Full)),
        ] {
            let text = format!("postgres://me:pw@db.example/db{options}");
            assert_eq!(way(&text, false).unwrap(), strict, "{text}");
            assert_eq!(way(&text, true).unwrap(), allowed, "{text}");
        }
    }

    #[test]
    fn another_machine_needs_tls_and_credentials() {
        for text in [
            "postgres://me@db.example/db",
            "postgres://me@db.example/db?sslmode=require",
            "postgres://me:@db.example/db?sslmode=require",
            "postgres://me:pw@db.example/db?sslmode=disable",
            "postgres://me:pw@localhost,db.example/db?sslmode=disable",
            "postgres://me@localhost/db?hostaddr=10.0.0.7",
        ] {
            assert_eq!(way(text, false).unwrap_err().class, FaultClass::Misconfigured, "{text}");
            assert!(way(text, true).is_ok(), "{text}");
        }
        assert!(way("postgres://me@db.example/db?sslcert=/c&sslkey=/k", false).is_ok());
    }
}
