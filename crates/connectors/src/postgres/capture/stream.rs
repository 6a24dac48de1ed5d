//! The replication connection: messages gathered into transactions.

use std::time::Duration;

use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position};
use chunk_sync_model::Time;
use pgwire_replication::error::PgWireError;
use pgwire_replication::{Lsn, ReplicationClient, ReplicationConfig, ReplicationEvent};
use tokio_postgres::config::{Host, SslMode};

use super::pgoutput::{Message, Tables};
use super::tunnel::Tunnel;
use super::{CONTEXT, CaptureConfig, OWN};

/// 2000-01-01, from which PostgreSQL counts, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// How often the server is told what is confirmed; it also sends word of itself, and where it does not for three times as
/// long as it was asked to, the connection is given up.
const STATUS: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(60);

/// The log, being read.
pub(super) struct Stream {
    client: ReplicationClient,
    // Closed after the client that uses it.
    _tunnel: Option<Tunnel>,
    tables: Tables,
    /// The transaction under way.
    open: Option<Open>,
}

struct Open {
    captured: Captured,
    /// It is the service's own.
    own: bool,
}

impl Stream {
    /// Reads from the server that `link` names, as secure as it wants it.
    pub(super) async fn open(link: &tokio_postgres::Config, config: &CaptureConfig) -> Result<Self, Fault> {
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
        Ok(Self { client, _tunnel: tunnel, tables: Tables::default(), open: None })
    }

    /// Takes one message in; the transaction that it ends.
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
    /// The next transaction.
    pub(super) async fn next(&mut self) -> Result<Captured, Fault> {
        loop {
            let event = tokio::time::timeout(SILENCE, self.client.recv()).await;
            let event = event.map_err(|_| Fault::new(FaultClass::Timeout, CONTEXT, "the server is silent"))?;
            match event.map_err(|error| fault(&error))? {
                Some(event) => {
                    if let Some(captured) = self.take(event)? {
                        return Ok(captured);
                    }
                }
                None => return Err(Fault::new(FaultClass::Unavailable, CONTEXT, "the server ended the stream")),
            }
        }
    }

    /// All up to here is safe elsewhere.
    pub(super) fn confirm(&mut self, position: Position) {
        self.client.update_applied_lsn(Lsn::from_u64(position.0));
    }
}

/// The settings of the connection: those of `link` in the words of the other client.
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

/// What the client says; a slot that is taken is no failure but a reason to wait.
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
