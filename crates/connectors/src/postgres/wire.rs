//! PostgreSQL's protocol as far as the replication connection needs it: login, simple queries, and the stream of a
//! replication. The connections to the rows have a client of their own, which lacks the last.
//!
//! Source: PostgreSQL's manual, "Message Formats" and "SASL Authentication".

mod frame;
mod login;

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::Cause;
pub(super) use frame::Frame;
pub(super) use login::WireLogin;

/// The buffer for messages from the server shrinks to this size after a larger message.
const KEPT: usize = 64 * 1024;

/// The largest message that the server can send.
const LARGEST: usize = 1 << 30;

/// How long a message may take to be sent.
const SENT_WITHIN: Duration = Duration::from_secs(30);

/// A bidirectional stream of bytes.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A row of texts.
pub(super) type Row = Vec<Option<String>>;

/// A connection after its login.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    input: BytesMut,
}

impl Wire {
    fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, input: BytesMut::with_capacity(KEPT) }
    }

    /// The next message. May be dropped and called again: nothing is lost.
    pub(super) async fn frame(&mut self) -> Result<Frame, Cause> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input, LARGEST).map_err(Cause::Protocol)? {
                if self.input.is_empty() && self.input.capacity() > 2 * KEPT {
                    self.input = BytesMut::with_capacity(KEPT);
                }
                return Ok(frame);
            }
            self.input.reserve(8 * 1024);
            if self.stream.read_buf(&mut self.input).await.map_err(Cause::broken)? == 0 {
                return Err(Cause::Socket(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = tokio::time::timeout(SENT_WITHIN, sent).await;
        sent.map_err(|_| Cause::Timeout(SENT_WITHIN))?.map_err(Cause::broken)
    }

    async fn send_query(&mut self, sql: &str) -> Result<(), Cause> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|error| Cause::Protocol(error.to_string()))?;
        self.send(&message).await
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Cause> {
        self.send_query(sql).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'D' => rows.push(frame.row().map_err(Cause::Protocol)?),
                b'E' => failed = Some(frame.error()),
                b'Z' => return failed.map_or(Ok(rows), |error| Err(Cause::Server(error))),
                _ => {}
            }
        }
    }

    /// Runs a statement that opens a stream in both directions.
    pub(super) async fn copy_both(&mut self, sql: &str) -> Result<(), Cause> {
        self.send_query(sql).await?;
        let mut failed = None;
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'W' => return Ok(()),
                b'E' => failed = Some(frame.error()),
                b'Z' => {
                    let other = || Cause::Protocol("the server did not start the stream".to_owned());
                    return Err(failed.map_or_else(other, Cause::Server));
                }
                _ => {}
            }
        }
    }

    /// Ends the connection.
    pub(super) async fn close(mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        // The server notices a closed connection as well.
        let _ = self.send(&message).await;
        let _ = self.stream.shutdown().await;
    }
}
