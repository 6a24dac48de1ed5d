//! The replication connection: collects messages into transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use chunk_sync_engine::ports::{Captured, Fault, FaultClass, PART, Position};
use chunk_sync_model::Time;
use pgwire_replication::error::PgWireError;
use pgwire_replication::{Lsn, ReplicationClient, ReplicationConfig, ReplicationEvent};
use tokio::time::Instant;
use tokio_postgres::config::{Host, SslMode};

use super::pgoutput::{Message, Tables};
use super::tunnel::Tunnel;
use super::{CONTEXT, CaptureConfig, OWN};

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// How often the client sends the confirmed position to the server.
const STATUS: Duration = Duration::from_secs(1);

/// Messages that the client reads ahead, and the largest one. A publication of whole rows sends their contents.
const AHEAD: usize = 256;
const LARGEST: usize = 1 << 30;

/// An open replication stream.
pub(super) struct Stream {
    client: ReplicationClient,
    // Declared after the client, so that it is dropped after it.
    _tunnel: Option<Tunnel>,
    tables: Tables,
    /// The transaction that is being received.
    open: Option<Open>,
    /// After this silence the connection is given up. A server also sends messages when nothing happens.
    silence: Duration,
    /// When the last message arrived. Kept here, because a wait for the next one is dropped and begun again.
    heard: Instant,
}

/// The part of a transaction that is being received.
struct Open {
    part: Captured,
    /// Whether the service itself wrote it.
    own: bool,
}

impl Open {
    fn begin(commit: Position, at: Time) -> Self {
        let part = Captured { rows: Vec::new(), truncated: false, at, commit, end: None };
        Self { part, own: false }
    }

    /// Adds a change; returns the part once it is full.
    fn add(&mut self, message: Message) -> Option<Captured> {
        match message {
            Message::Rows(rows) => self.part.rows.extend(rows),
            // The rows that were changed before are gone.
            Message::Truncate => {
                self.part.truncated = true;
                self.part.rows.clear();
            }
            Message::Other => {}
        }
        (self.part.rows.len() >= PART).then(|| self.next())
    }

    fn next(&mut self) -> Captured {
        let next = Self::begin(self.part.commit, self.part.at);
        std::mem::replace(&mut self.part, next.part)
    }
}

impl Stream {
    /// Connects to the server of `link`, through TLS unless its sslmode is `disable`, and starts the replication. Changes
    /// of other relations than those with the OIDs `relations` are ignored.
    pub(super) async fn open(
        link: &tokio_postgres::Config,
        config: &CaptureConfig,
        relations: BTreeSet<u32>,
        silence: Duration,
    ) -> Result<Self, Fault> {
        let port = link.get_ports().first().copied().unwrap_or(5432);
        let (host, tunnel) = match link.get_hosts().first() {
            Some(Host::Unix(path)) => (path.display().to_string(), None),
            Some(Host::Tcp(host)) if link.get_ssl_mode() != SslMode::Disable => {
                let tunnel = Tunnel::to(host, port).await?;
                (tunnel.host(), Some(tunnel))
            }
            Some(Host::Tcp(host)) => (host.clone(), None),
            None => ("127.0.0.1".to_owned(), None),
        };
        let settings = replication(link, (host, port), config);
        let client = ReplicationClient::connect(settings).await.map_err(|error| fault(&error))?;
        let tables = Tables::of(relations);
        Ok(Self { client, _tunnel: tunnel, tables, open: None, silence, heard: Instant::now() })
    }

    /// Processes one message and returns the part of a transaction that it ends, if any.
    fn take(&mut self, event: ReplicationEvent) -> Result<Option<Captured>, Fault> {
        match event {
            ReplicationEvent::Begin { final_lsn, commit_time_micros, .. } => {
                let at = Time::from_micros(commit_time_micros.saturating_add(POSTGRES_EPOCH));
                self.open = Some(Open::begin(Position(final_lsn.as_u64()), at));
            }
            ReplicationEvent::Message { prefix, .. } if prefix == OWN => {
                if let Some(open) = &mut self.open {
                    open.own = true;
                }
            }
            ReplicationEvent::XLogData { data, .. } => {
                let message = self.tables.read(&data);
                let message = message.map_err(|error| Fault::new(FaultClass::Misconfigured, CONTEXT, error))?;
                return Ok(self.open.as_mut().filter(|open| !open.own).and_then(|open| open.add(message)));
            }
            ReplicationEvent::Commit { end_lsn, .. } => {
                let end = Some(Position(end_lsn.as_u64()));
                return Ok(self.open.take().map(|open| Captured { end, ..open.part }));
            }
            _ => {}
        }
        Ok(None)
    }
}

impl Stream {
    /// Waits for the next part of a transaction.
    pub(super) async fn next(&mut self) -> Result<Captured, Fault> {
        loop {
            // A message that has arrived is taken, however late this is called.
            let event = tokio::time::timeout_at(self.heard + self.silence, self.client.recv()).await;
            let event = event.map_err(|_| {
                let message = format!("the server sent nothing for {} s", self.silence.as_secs());
                Fault::new(FaultClass::Timeout, CONTEXT, message)
            })?;
            self.heard = Instant::now();
            match event.map_err(|error| fault(&error))? {
                Some(event) => {
                    if let Some(captured) = self.take(event)? {
                        return Ok(captured);
                    }
                }
                None => {
                    return Err(Fault::new(
                        FaultClass::Unavailable,
                        CONTEXT,
                        "the server ended the replication stream",
                    ));
                }
            }
        }
    }

    /// Confirms that every transaction up to `position` is durable on the bus.
    pub(super) fn confirm(&mut self, position: Position) {
        self.client.update_applied_lsn(Lsn::from_u64(position.0));
    }
}

/// Translates the settings of `link` into those of the replication client.
fn replication(
    link: &tokio_postgres::Config,
    (host, port): (String, u16),
    config: &CaptureConfig,
) -> ReplicationConfig {
    let user = link.get_user().unwrap_or("postgres");
    let password = String::from_utf8_lossy(link.get_password().unwrap_or_default()).into_owned();
    let database = link.get_dbname().unwrap_or(user);
    ReplicationConfig::new(host, user, password, database, config.slot.as_str(), config.publication.as_str())
        .with_port(port)
        .with_application_name("chunk-sync capture")
        .with_start_lsn(Lsn::ZERO)
        .with_status_interval(STATUS)
        .with_buffer_size(AHEAD)
        .with_max_message_size(LARGEST)
}

/// The fault of an error of the client. A slot in use is [`FaultClass::Busy`]: the caller retries.
fn fault(error: &PgWireError) -> Fault {
    let text = error.to_string();
    let class = if text.contains("is active for PID") || text.contains("55006") {
        FaultClass::Busy
    } else if error.is_auth() {
        FaultClass::Denied
    } else {
        FaultClass::Unavailable
    };
    Fault::new(class, CONTEXT, text)
}
