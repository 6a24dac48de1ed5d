//! The replication connection: collects messages into transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position};
use chunk_sync_model::Time;
use pgwire_replication::error::PgWireError;
use pgwire_replication::{Lsn, ReplicationClient, ReplicationConfig, ReplicationEvent};
use tokio_postgres::config::{Host, SslMode};

use super::pgoutput::{Message, Tables};
use super::tunnel::Tunnel;
use super::{CONTEXT, CaptureConfig, OWN};

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// How often the client sends the confirmed position to the server, and after what silence of the server, which also
/// sends messages when nothing happens, the connection is given up.
const STATUS: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(60);

/// An open replication stream.
pub(super) struct Stream {
    client: ReplicationClient,
    // Declared after the client, so that it is dropped after it.
    _tunnel: Option<Tunnel>,
    tables: Tables,
    /// The transaction that is being received.
    open: Option<Open>,
}

struct Open {
    captured: Captured,
    /// Whether the service itself wrote it.
    own: bool,
}

impl Stream {
    /// Connects to the server of `link`, through TLS unless its sslmode is `disable`, and starts the replication. Changes
    /// of other relations than those with the OIDs `relations` are ignored.
    pub(super) async fn open(
        link: &tokio_postgres::Config,
        config: &CaptureConfig,
        relations: BTreeSet<u32>,
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
        Ok(Self { client, _tunnel: tunnel, tables: Tables::of(relations), open: None })
    }

    /// Processes one message and returns the transaction that it ends, if any.
    fn take(&mut self, event: ReplicationEvent) -> Result<Option<Captured>, Fault> {
        match event {
            ReplicationEvent::Begin { commit_time_micros, .. } => {
                let at = Time::from_micros(commit_time_micros.saturating_add(POSTGRES_EPOCH));
                let captured = Captured { rows: Vec::new(), truncated: false, at, end: Position::default() };
                self.open = Some(Open { captured, own: false });
            }
            ReplicationEvent::Message { prefix, .. } if prefix == OWN => {
                if let Some(open) = &mut self.open {
                    open.own = true;
                }
            }
            ReplicationEvent::XLogData { data, .. } => {
                let message = self.tables.read(&data);
                let message = message.map_err(|error| Fault::new(FaultClass::Misconfigured, CONTEXT, error))?;
                if let Some(open) = self.open.as_mut().filter(|open| !open.own) {
                    match message {
                        Message::Rows(rows) => open.captured.rows.extend(rows),
                        Message::Truncate => open.captured.truncated = true,
                        Message::Other => {}
                    }
                }
            }
            ReplicationEvent::Commit { end_lsn, .. } => {
                let open = self.open.take();
                return Ok(open.map(|open| Captured { end: Position(end_lsn.as_u64()), ..open.captured }));
            }
            _ => {}
        }
        Ok(None)
    }
}

impl Stream {
    /// Waits for the next transaction.
    pub(super) async fn next(&mut self) -> Result<Captured, Fault> {
        loop {
            let event = tokio::time::timeout(SILENCE, self.client.recv()).await;
            let event = event.map_err(|_| {
                Fault::new(FaultClass::Timeout, CONTEXT, format!("the server sent nothing for {} s", SILENCE.as_secs()))
            })?;
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
