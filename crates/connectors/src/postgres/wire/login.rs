//! Encryption and login of a connection in PostgreSQL's protocol.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;

use super::{Frame, Wire};
use crate::postgres::conninfo::{Binding, Endpoint};
use crate::postgres::failure::Cause;
use crate::postgres::link::{Encryption, Link, Login, STATE, ServerState, open};
use crate::postgres::socket::Socket;

/// A login of a replication connection, or of a plain one.
#[derive(Clone, Copy, Debug)]
pub(in crate::postgres) struct WireLogin {
    pub(in crate::postgres) is_replication: bool,
    /// The name of the application, if the connection string has none.
    pub(in crate::postgres) application: &'static str,
}

impl Login for WireLogin {
    type Session = Wire;

    async fn log_in(
        &self,
        link: &Link,
        endpoint: &Endpoint,
        socket: Socket,
        encryption: Encryption<'_>,
    ) -> Result<Wire, Cause> {
        let open = open(socket, encryption, link.info.tls.is_direct).await?;
        let bound =
            Bound { wanted: link.info.channel_binding, end_point: open.end_point, is_encrypted: open.is_encrypted };
        let mut wire = Wire::new(open.stream);
        wire.send(&self.startup(link)?).await?;
        let mut login = Authentication { link, endpoint, bound, scram: None, is_bound: false };
        loop {
            let frame = wire.frame().await?;
            match frame.tag {
                b'R' => {
                    if let Some(answer) = login.answer(&frame)? {
                        wire.send(&answer).await?;
                    }
                }
                b'E' => return Err(Cause::Server(frame.error())),
                b'Z' => return Ok(wire),
                _ => {}
            }
        }
    }

    async fn state(&self, wire: &mut Wire) -> Result<ServerState, Cause> {
        let rows = wire.query(STATE).await?;
        let column = |number: usize| rows.first().and_then(|row| row.get(number)?.as_deref());
        Ok(ServerState::of(column(0), column(1)))
    }
}

impl WireLogin {
    fn startup(self, link: &Link) -> Result<BytesMut, Cause> {
        let info = &link.info;
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("database", &info.database),
            ("client_encoding", "UTF8"),
            ("application_name", link.application_name(self.application)),
        ];
        if self.is_replication {
            parameters.push(("replication", "database"));
        }
        parameters.extend(info.options.as_deref().map(|options| ("options", options)));
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(|error| Cause::Protocol(error.to_string()))?;
        Ok(message)
    }
}

struct Bound {
    wanted: Binding,
    end_point: Option<Vec<u8>>,
    is_encrypted: bool,
}

/// A login under way.
struct Authentication<'a> {
    link: &'a Link,
    endpoint: &'a Endpoint,
    bound: Bound,
    scram: Option<ScramSha256>,
    /// Whether the login is bound to the connection.
    is_bound: bool,
}

impl Authentication<'_> {
    /// The answer to a request; `None` if the server expects none.
    fn answer(&mut self, frame: &Frame) -> Result<Option<BytesMut>, Cause> {
        let (kind, body) = frame.body.split_first_chunk::<4>().ok_or_else(|| malformed("truncated"))?;
        let mut message = BytesMut::new();
        match u32::from_be_bytes(*kind) {
            0 => return self.unbound().map(|()| None),
            3 => {
                self.unbound()?;
                frontend::password_message(self.password()?, &mut message).map_err(malformed)?;
            }
            5 => {
                self.unbound()?;
                let salt = body.first_chunk::<4>().ok_or_else(|| malformed("no salt"))?;
                let hash = md5_hash(self.link.info.user.as_bytes(), self.password()?, *salt);
                frontend::password_message(hash.as_bytes(), &mut message).map_err(malformed)?;
            }
            10 => self.begin_scram(body, &mut message)?,
            11 => {
                let scram = self.scram.as_mut().ok_or_else(|| malformed("out of order"))?;
                scram.update(body).map_err(|error| refused(&error))?;
                frontend::sasl_response(scram.message(), &mut message).map_err(malformed)?;
            }
            12 => {
                self.scram
                    .as_mut()
                    .ok_or_else(|| malformed("out of order"))?
                    .finish(body)
                    .map_err(|error| refused(&error))?;
                return Ok(None);
            }
            other => {
                let name = match other {
                    2 => "Kerberos",
                    7 | 8 => "GSSAPI",
                    9 => "SSPI",
                    _ => "an unknown method",
                };
                return Err(Cause::Login(format!(
                    "the server asks for a login by {name}, which is not supported; let pg_hba.conf ask this user for \
                     scram-sha-256 or a certificate"
                )));
            }
        }
        Ok(Some(message))
    }

    /// Fails where the login had to be bound to the connection.
    fn unbound(&self) -> Result<(), Cause> {
        if self.bound.wanted != Binding::Require || self.is_bound {
            return Ok(());
        }
        Err(Cause::Login(
            "channel_binding=require: the server did not offer SCRAM with channel binding; renew the password while \
             password_encryption is scram-sha-256, connect past a pooler, or remove channel_binding"
                .to_owned(),
        ))
    }

    fn password(&self) -> Result<&[u8], Cause> {
        let password = self.endpoint.password.as_ref().map(|password| password.expose_secret().as_bytes());
        password.ok_or_else(|| {
            Cause::Login(format!(
                "the server asks for a password, and none is known; write it into the URL, PGPASSWORD or the password \
                 file, for user {}",
                self.link.info.user
            ))
        })
    }

    fn begin_scram(&mut self, body: &[u8], message: &mut BytesMut) -> Result<(), Cause> {
        let offers = |name: &str| body.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
        let end_point = self.bound.end_point.clone().filter(|_| self.bound.wanted != Binding::Disable);
        let (mechanism, binding) = match end_point {
            Some(end_point) if offers(sasl::SCRAM_SHA_256_PLUS) => {
                self.is_bound = true;
                (sasl::SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point))
            }
            Some(_) if self.bound.is_encrypted => (sasl::SCRAM_SHA_256, ChannelBinding::unrequested()),
            _ => (sasl::SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        self.unbound()?;
        if !offers(mechanism) {
            return Err(Cause::Login("the server offers no login by SCRAM-SHA-256".to_owned()));
        }
        let scram = ScramSha256::new(self.password()?, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), message).map_err(malformed)?;
        self.scram = Some(scram);
        Ok(())
    }
}

fn malformed(error: impl std::fmt::Display) -> Cause {
    Cause::Protocol(format!("the login is not PostgreSQL's: {error}"))
}

/// The exchange failed on this side: the server does not know the password, or relays the exchange of another connection.
fn refused(error: &std::io::Error) -> Cause {
    Cause::Login(format!("the login by SCRAM failed: {error}; check the password"))
}
