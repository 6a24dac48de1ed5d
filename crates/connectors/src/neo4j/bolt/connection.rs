//! One connection: the handshake, requests in one flight, and their responses in order.
//!
//! A call that is cancelled leaves responses outstanding. Such a connection is not [clean](Connection::is_clean) and must
//! be dropped, which ends its transaction on the server.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::decode::{Response, response};
use super::encode;
pub(in super::super) use super::request::Credentials;
use super::request::{LOGON_FROM, Request};
use super::route::Route;
use super::socket::{self, Socket};
use super::value::{Row, Value};
use crate::neo4j::fault::Error;

/// The preamble, then four proposals: 5.0 to 5.4, 4.4, none, none.
const HANDSHAKE: [u8; 20] = [0x60, 0x60, 0xb0, 0x17, 0, 4, 4, 5, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0];

/// The column under which a routing table is returned.
const ROUTES: &str = "routing table";

/// A connection that is logged on.
pub(in super::super) struct Connection {
    socket: BufReader<Box<dyn Socket>>,
    version: [u8; 2],
    /// Requests that were not sent yet.
    buffer: Vec<u8>,
    /// Requests, sent or not, without a response.
    outstanding: usize,
    /// The server answers every request with IGNORED until it is reset.
    failed: bool,
}

impl Connection {
    /// Connects and logs on.
    pub(in super::super) async fn open(
        address: &Address,
        tls: Option<&TlsConnector>,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let mut socket = BufReader::new(socket::connect(address, tls).await?);
        socket.write_all(&HANDSHAKE).await?;
        socket.flush().await?;
        let mut agreed = [0; 4];
        socket.read_exact(&mut agreed).await?;
        let [_, _, minor, major] = agreed;
        if !matches!(major, 4 | 5) {
            let message =
                "the server speaks neither Bolt 4.4 nor 5; check that the address is that of a Neo4j 4.4 or later";
            return Err(Error::Setup(message.to_owned()));
        }
        let version = [major, minor];
        let mut connection = Self { socket, version, buffer: Vec::new(), outstanding: 0, failed: false };
        let routed = address.routed.then(|| address.authority());
        connection.request(&Request::Hello(credentials, routed.as_deref()));
        if version >= LOGON_FROM {
            connection.request(&Request::Logon(credentials));
        }
        connection.finish().await?;
        Ok(connection)
    }

    /// Adds a request to the flight.
    pub(in super::super) fn request(&mut self, request: &Request<'_>) {
        encode::message(request, self.version, &mut self.buffer);
        self.outstanding += 1;
    }

    /// Whether every request was answered and none failed.
    pub(in super::super) fn is_clean(&self) -> bool {
        self.outstanding == 0 && !self.failed
    }

    /// Whether a request failed since the last reset, and every request was answered.
    pub(in super::super) fn is_failed(&self) -> bool {
        self.failed && self.outstanding == 0
    }

    /// Sends the flight and waits for all responses; returns the rows, those of each PULL apart.
    ///
    /// # Errors
    /// [`Error::Server`] with the first failure, after all responses have arrived; the connection must be
    /// [reset](Self::reset). After any other error the connection must be dropped.
    pub(in super::super) async fn finish(&mut self) -> Result<Vec<Vec<Row>>, Error> {
        let flight = std::mem::take(&mut self.buffer);
        self.socket.write_all(&flight).await?;
        self.socket.flush().await?;
        let (mut results, mut failure) = (Vec::new(), None);
        let (mut columns, mut rows): (Arc<[String]>, _) = (Arc::default(), None);
        while self.outstanding > 0 {
            match self.receive().await? {
                Response::Record(values) => {
                    rows.get_or_insert_with(Vec::new).push(Row { columns: Arc::clone(&columns), values });
                    continue;
                }
                Response::Success(mut metadata) => match (metadata.remove("fields"), metadata.remove("rt")) {
                    // The response to RUN: the rows that follow have these columns.
                    (Some(Value::List(names)), _) => {
                        columns = names.into_iter().map(name).collect();
                        rows = Some(Vec::new());
                    }
                    // The response to ROUTE has no rows; it becomes one.
                    (_, Some(table)) => {
                        results.push(vec![Row { columns: Arc::new([ROUTES.to_owned()]), values: vec![table] }]);
                    }
                    _ => results.extend(rows.take()),
                },
                Response::Ignored => {}
                Response::Failure { code, message } => {
                    self.failed = true;
                    failure.get_or_insert(Error::of_server(code, message));
                }
            }
            self.outstanding -= 1;
        }
        failure.map_or(Ok(results), Err)
    }

    /// Ends the transaction of a failed flight; the connection can be used again.
    pub(in super::super) async fn reset(&mut self) -> Result<(), Error> {
        self.request(&Request::Reset);
        self.failed = false;
        self.finish().await.map(drop)
    }

    /// Asks for the routing table of a database, as a client that was given `address`.
    ///
    /// # Errors
    /// [`Error::Answer`] if the response is no table; else as [`finish`](Self::finish).
    pub(in super::super) async fn route(&mut self, address: &str, database: &str) -> Result<Route, Error> {
        self.request(&Request::Route(address, database));
        let results = self.finish().await?;
        let table = results.iter().flatten().find_map(|row| row.get(ROUTES));
        table.and_then(Route::of).ok_or(Error::Answer(ROUTES))
    }

    async fn receive(&mut self) -> Result<Response, Error> {
        let mut message = Vec::new();
        loop {
            match self.socket.read_u16().await? {
                // Between messages the server may send empty chunks to keep the connection open.
                0 if message.is_empty() => {}
                0 => break,
                length => {
                    let start = message.len();
                    message.resize(start + usize::from(length), 0);
                    self.socket.read_exact(&mut message[start..]).await?;
                }
            }
        }
        response(&message).ok_or_else(|| {
            Error::Connection(io::Error::new(ErrorKind::InvalidInput, "the server sent an invalid Bolt message"))
        })
    }
}

fn name(value: Value) -> String {
    match value {
        Value::Text(name) => name,
        _ => String::new(),
    }
}
