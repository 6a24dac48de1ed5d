//! The replication connection. A task reads it, decodes each message at once and hands over parts of transactions, so that
//! memory stays bounded whatever a message, a transaction or the delay of the consumer is: it holds one message, and
//! [`AHEAD`] parts.
//!
//! # What a crash does
//! The server keeps the log from the position that was confirmed last. Only what [`Stream::confirm`] was called with is
//! ever confirmed, never what was merely read: after a crash everything else comes again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, BytesMut};
use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position, Source};
use postgres_protocol::message::frontend::CopyData;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout, timeout_at};

use super::CONTEXT;
use super::decoder::Decoder;
use crate::postgres::failure::Cause;
use crate::postgres::link::Link;
use crate::postgres::provider::Provider;
use crate::postgres::replication::{Replication, connect};
use crate::postgres::sql::quoted;
use crate::postgres::wire::{Frame, Wire};

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// How often the confirmed position is sent to the server.
const STATUS: Duration = Duration::from_secs(1);

/// Most parts of transactions read ahead of the consumer.
const AHEAD: usize = 4;

/// The time limit for the last confirmation, when the stream is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// What to stream.
pub(super) struct Wanted<'a> {
    pub(super) slot: &'a str,
    /// The options of the plugin, in parentheses.
    pub(super) options: &'a str,
    /// The identifier of the server that the rows are on.
    pub(super) system: &'a str,
    pub(super) provider: Provider,
    /// After this silence the connection is given up. A server also sends messages when nothing happens.
    pub(super) silence: Duration,
}

/// An open replication stream. Dropped, it sends the confirmed position once more and ends.
pub(super) struct Stream {
    captured: mpsc::Receiver<Result<Captured, Fault>>,
    confirmed: watch::Sender<Position>,
}

impl Stream {
    /// Connects to the server and starts the replication.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy) while another process reads the slot; [`Misconfigured`](FaultClass::Misconfigured) if
    /// `link` leads to a pooler or to another server than the one with the rows; the fault of the connection otherwise.
    pub(super) async fn open(link: &Link, wanted: Wanted<'_>, decoder: Decoder) -> Result<Self, Fault> {
        let opened = connect(link, wanted.provider).await;
        let Replication { mut wire, system } = opened.map_err(|refusal| refusal.into_fault(CONTEXT))?;
        let begun = if system == wanted.system {
            begin(&mut wire, &wanted).await
        } else {
            Err(other_server(&system, wanted.system))
        };
        if let Err(fault) = begun {
            wire.close().await;
            return Err(fault);
        }
        let (told, captured) = mpsc::channel(AHEAD);
        let (confirmed, confirming) = watch::channel(Position::default());
        let mut status = interval(STATUS);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reader = Reader { wire, decoder, told, confirming, status, silence: wanted.silence };
        tokio::spawn(reader.run());
        Ok(Self { captured, confirmed })
    }
}

#[async_trait]
impl Source for Stream {
    async fn next(&mut self) -> Result<Captured, Fault> {
        let ended = || Err(Fault::new(FaultClass::Unavailable, CONTEXT, "the replication stream has ended"));
        self.captured.recv().await.unwrap_or_else(ended)
    }

    fn confirm(&mut self, position: Position) {
        self.confirmed.send_replace(position);
    }
}

/// The replication connection leads to another server than the connections to the rows.
fn other_server(system: &str, of_rows: &str) -> Fault {
    let message = format!(
        "postgres.replication_url leads to another server (system {system}) than postgres.url (system {of_rows}); correct \
         one of them"
    );
    Fault::new(FaultClass::Misconfigured, CONTEXT, message)
}

async fn begin(wire: &mut Wire, wanted: &Wanted<'_>) -> Result<(), Fault> {
    // A plugin prints times in the zone of the session.
    wire.query("SET TIME ZONE 'UTC'").await.map_err(|cause| fault(&cause))?;
    let start = format!("START_REPLICATION SLOT {} LOGICAL 0/0 {}", quoted(wanted.slot), wanted.options);
    wire.copy_both(&start).await.map_err(|cause| fault(&cause))
}

/// Reads the connection.
struct Reader {
    wire: Wire,
    decoder: Decoder,
    told: mpsc::Sender<Result<Captured, Fault>>,
    confirming: watch::Receiver<Position>,
    status: Interval,
    silence: Duration,
}

/// What happened next.
enum Event {
    Message(Frame),
    Tick,
    Closed,
}

impl Reader {
    async fn run(mut self) {
        match self.read().await {
            Ok(()) => {
                // Without it, the server sends the last transactions again.
                let farewell = async {
                    let sent = self.report().await;
                    self.wire.close().await;
                    sent
                };
                let _ = timeout(FAREWELL, farewell).await;
            }
            // When the receiver is gone, the stream has been closed and needs no error.
            Err(fault) => drop(self.told.send(Err(fault)).await),
        }
    }

    /// Returns when the stream is closed.
    async fn read(&mut self) -> Result<(), Fault> {
        let mut heard = Instant::now();
        loop {
            match self.event(heard).await? {
                Event::Closed => return Ok(()),
                Event::Tick => self.report().await?,
                Event::Message(frame) => {
                    if let Some(part) = self.take(&frame).await?
                        && !self.hand_over(part).await?
                    {
                        return Ok(());
                    }
                    heard = Instant::now();
                }
            }
        }
    }

    async fn event(&mut self, heard: Instant) -> Result<Event, Fault> {
        tokio::select! {
            () = self.told.closed() => Ok(Event::Closed),
            _ = self.status.tick() => Ok(Event::Tick),
            frame = timeout_at(heard + self.silence, self.wire.frame()) => match frame {
                Ok(frame) => frame.map(Event::Message).map_err(|cause| fault(&cause)),
                Err(_) => {
                    let message = format!("the server sent nothing for {} s", self.silence.as_secs());
                    Err(Fault::new(FaultClass::Timeout, CONTEXT, message))
                }
            },
        }
    }

    /// Processes one message and returns the part of a transaction that it ends, if any.
    async fn take(&mut self, frame: &Frame) -> Result<Option<Captured>, Fault> {
        match (frame.tag, frame.body.first()) {
            (b'd', Some(b'w')) => {
                // Start, end and time of sending.
                let data = frame.body.get(25..).unwrap_or_default();
                self.decoder.take(data).map_err(|error| Fault::new(FaultClass::Misconfigured, CONTEXT, error))
            }
            (b'd', Some(b'k')) => {
                if frame.body.get(17) == Some(&1) {
                    self.report().await?;
                }
                Ok(None)
            }
            (b'E', _) => Err(fault(&Cause::Server(frame.error()))),
            (b'c' | b'C' | b'Z', _) => Err(Fault::new(
                FaultClass::Unavailable,
                CONTEXT,
                "the server ended the replication stream; its log has the reason",
            )),
            _ => Ok(None),
        }
    }

    /// Waits until the consumer has room; false if it is gone. Reports meanwhile, so that the server keeps the connection.
    async fn hand_over(&mut self, part: Captured) -> Result<bool, Fault> {
        loop {
            tokio::select! {
                permit = self.told.reserve() => match permit {
                    Ok(permit) => {
                        permit.send(Ok(part));
                        return Ok(true);
                    }
                    Err(_) => return Ok(false),
                },
                _ = self.status.tick() => {}
            }
            self.report().await?;
        }
    }

    /// Sends the confirmed position.
    async fn report(&mut self) -> Result<(), Fault> {
        let position = self.confirming.borrow_and_update().0;
        let now = jiff::Timestamp::now().as_microsecond() - POSTGRES_EPOCH;
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        // Written, flushed and applied; it asks for no answer.
        (0..3).for_each(|_| status.put_u64(position));
        status.put_i64(now);
        status.put_u8(0);
        let mut message = BytesMut::new();
        CopyData::new(status).map_err(|error| fault(&Cause::Protocol(error.to_string())))?.write(&mut message);
        self.wire.send(&message).await.map_err(|cause| fault(&cause))
    }
}

/// The fault of an error of the connection. A slot in use is [`FaultClass::Busy`]: the caller retries.
fn fault(cause: &Cause) -> Fault {
    Fault::new(cause.class(), CONTEXT, cause)
}
