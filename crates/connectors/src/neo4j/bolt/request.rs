//! The requests, and their fields in each version of the protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::value::Value;

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub(in super::super) struct Statement {
    text: String,
    parameters: BTreeMap<String, Value>,
}

impl Statement {
    pub(in super::super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), parameters: BTreeMap::new() }
    }

    /// Adds a parameter.
    pub(in super::super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }
}

/// A request.
pub(in super::super) enum Request<'a> {
    /// The credentials, and the address that the client was given if it asks for routes.
    Hello(&'a Credentials, Option<&'a str>),
    /// From version 5.1 on.
    Logon(&'a Credentials),
    /// Ends what failed, and rolls back.
    Reset,
    /// The database, and the time after which the server ends the transaction.
    Begin(&'a str, Duration),
    Run(&'a Statement),
    /// Asks for all rows.
    Pull,
    /// Asks for no rows.
    Discard,
    Commit,
    Rollback,
    /// Asks for the routing table of the database, as a client that was given this address.
    Route(&'a str, &'a str),
}

/// Whose rights a connection has.
#[derive(Clone, Debug)]
pub(in super::super) struct Credentials {
    pub(in super::super) user: String,
    pub(in super::super) password: SecretString,
}

impl Credentials {
    fn fields(&self) -> BTreeMap<String, Value> {
        map([
            ("scheme", "basic".into()),
            ("principal", self.user.as_str().into()),
            ("credentials", self.password.expose_secret().into()),
        ])
    }
}

impl Request<'_> {
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Hello(..) => 0x01,
            Self::Logon(_) => 0x6a,
            Self::Reset => 0x0f,
            Self::Begin(..) => 0x11,
            Self::Run(_) => 0x10,
            Self::Pull => 0x3f,
            Self::Discard => 0x2f,
            Self::Commit => 0x12,
            Self::Rollback => 0x13,
            Self::Route(..) => 0x66,
        }
    }

    pub(super) fn fields(&self, version: [u8; 2]) -> Vec<Value> {
        match self {
            Self::Hello(credentials, routed) => vec![Value::Map(hello(credentials, *routed, version))],
            Self::Logon(credentials) => vec![Value::Map(credentials.fields())],
            Self::Begin(database, timeout) => {
                let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
                vec![Value::Map(map([("db", (*database).into()), ("tx_timeout", millis.into())]))]
            }
            Self::Run(statement) => {
                let parameters = Value::Map(statement.parameters.clone());
                vec![statement.text.as_str().into(), parameters, Value::Map(BTreeMap::new())]
            }
            Self::Pull | Self::Discard => vec![Value::Map(map([("n", (-1).into())]))],
            Self::Route(address, database) => {
                let (context, extra) = (map([("address", (*address).into())]), map([("db", (*database).into())]));
                vec![Value::Map(context), Value::List(Vec::new()), Value::Map(extra)]
            }
            Self::Reset | Self::Commit | Self::Rollback => Vec::new(),
        }
    }
}

/// The name and version of this program, as the server logs it.
const AGENT: &str = concat!("chunk-sync/", env!("CARGO_PKG_VERSION"));

fn hello(credentials: &Credentials, routed: Option<&str>, version: [u8; 2]) -> BTreeMap<String, Value> {
    let mut fields = map([
        ("user_agent", AGENT.into()),
        // Required from version 5.3 on, ignored before.
        ("bolt_agent", Value::Map(map([("product", AGENT.into())]))),
    ]);
    if let Some(address) = routed {
        fields.insert("routing".to_owned(), Value::Map(map([("address", address.into())])));
    }
    if version < LOGON_FROM {
        fields.extend(credentials.fields());
    }
    fields
}

/// The version of the protocol from which on credentials are sent by their own request.
pub(super) const LOGON_FROM: [u8; 2] = [5, 1];

fn map<const N: usize>(fields: [(&str, Value); N]) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
