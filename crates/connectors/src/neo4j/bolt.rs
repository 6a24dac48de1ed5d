//! The Bolt protocol, versions 4.4 and 5.0 to 5.4, as far as the projection needs it: values, messages, and one
//! connection whose requests are pipelined. Written for what the client libraries lack: several requests in one flight,
//! and a socket without Nagle's algorithm.
//!
//! Specification: <https://neo4j.com/docs/bolt/current/>.

mod address;
mod connection;
mod decode;
mod encode;
mod request;
mod route;
mod socket;
mod value;

pub(super) use address::{Address, Security};
pub(super) use connection::{Connection, Credentials};
pub(super) use request::{Request, Statement};
pub(super) use route::Route;
pub(super) use value::{Row, Value};
