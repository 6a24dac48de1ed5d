//! Opens the implementations of the ports that the configuration names: one file per role, one for the installation that
//! they form, and one for `doctor`.

mod bus;
mod examine;
mod heartbeats;
mod installation;
mod rows;
mod stores;

use std::sync::Arc;

use chunk_sync_connectors::embedded::EmbeddedFile;
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Heartbeats, Installation, Installed};
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Target;
use tracing::warn;

use crate::config::{Config, Roles};
use heartbeats::FileHeartbeats;

pub(crate) use examine::{examine, rights, statements};
pub(crate) use installation::install;

/// How a command uses the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Processes the stream.
    Run,
    /// Publishes events; creates the embedded file if it does not exist.
    Publish,
    /// Reads, and may publish events, beside the process that processes the stream. Creates nothing.
    Beside,
}

/// The open ports and the publisher.
pub(crate) struct Wired {
    /// Where each role is kept, as text.
    pub(crate) roles: String,
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
    /// Captures changes that other programs make to rows; `None` if the rows are embedded.
    pub(crate) capture: Option<Arc<dyn Capture>>,
    /// The port that records the installation.
    pub(crate) installation: Arc<dyn Installation>,
    /// The recorded installation.
    pub(crate) installed: Installed,
    /// The embedded file, if it holds the rows and records.
    pub(crate) file: Option<EmbeddedFile>,
}

impl Wired {
    /// Locks the directory of the embedded file, so that only this process works the stream. Does nothing if the rows are in
    /// PostgreSQL.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), naming the process that holds the lock.
    pub(crate) async fn work(&self, command: &'static str) -> Result<(), Fault> {
        match self.file.clone() {
            Some(file) => blocking(move || file.work(command)).await,
            None => Ok(()),
        }
    }

    /// Checks that the installation has this store.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured), naming the stores that it has, if it has not.
    pub(crate) fn must_have(&self, target: Target) -> Result<(), Fault> {
        if self.ports.targets().contains(&target) {
            return Ok(());
        }
        let message = format!("this installation has no {target}; its stores are {}", self.installed.stores);
        Err(Fault::new(FaultClass::Misconfigured, "installation", message))
    }
}

/// Opens the roles that the configuration names, for the command `command`, and checks that they are one installation.
/// Creates at most the embedded file ([`Purpose::Run`] and [`Purpose::Publish`]) and the consumer group ([`Purpose::Run`]).
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured) if `init` has not run, if the set of stores differs from the recorded one, if
/// a server belongs to another installation, or if there is no embedded file to read; any fault of a role that must answer.
pub(crate) async fn open(config: &Config, purpose: Purpose, command: &'static str) -> Result<Wired, Fault> {
    let opened = Opened::of(config, Access::of(purpose), command).await?;
    let installed = installation::check(&opened, &config.roles, purpose).await?;
    if purpose == Purpose::Run {
        if let Some(capture) = &opened.rows.capture {
            capture.check().await?;
        }
        opened.bus.port.prepare().await?;
    }
    Ok(opened.wire(config, installed))
}

/// How the embedded file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// By the process that locks the directory.
    Work,
    /// Beside that process; created if it does not exist.
    Create,
    /// Beside that process; must exist.
    Existing,
}

impl Access {
    fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Run => Self::Work,
            Purpose::Publish => Self::Create,
            Purpose::Beside => Self::Existing,
        }
    }
}

/// Every role, open, before the check that they are one installation.
struct Opened {
    rows: rows::Rows,
    bus: bus::OpenBus,
    stores: Vec<stores::OpenStore>,
}

impl Opened {
    async fn of(config: &Config, access: Access, command: &'static str) -> Result<Self, Fault> {
        let (roles, limits) = (&config.roles, Arc::new(config.settings.limits.clone()));
        if roles.allow_insecure {
            warn!("allow_insecure is set: connections to other machines may use neither TLS nor password");
        }
        let rows = rows::open(roles, &limits, access, command).await?;
        let bus = bus::open(roles, &rows, &limits)?;
        let stores = stores::open(roles, &rows, &limits)?;
        Ok(Self { rows, bus, stores })
    }

    /// The places that keep the last value inserted into PostgreSQL; none if the rows are embedded.
    fn heartbeats(&self, config: &Config) -> Vec<Arc<dyn Heartbeats>> {
        if self.rows.capture.is_none() {
            return Vec::new();
        }
        let file: Arc<dyn Heartbeats> = Arc::new(FileHeartbeats::new(config.settings.wal.dir.clone()));
        std::iter::once(file).chain(self.bus.heartbeats.clone()).collect()
    }

    fn wire(self, config: &Config, installed: Installed) -> Wired {
        let heartbeats = self.heartbeats(config);
        let Self { rows, bus, stores } = self;
        let limits = Arc::new(config.settings.limits.clone());
        let stores = stores.into_iter().map(|store| store.checked(installed.id)).collect();
        let ports = Ports {
            set: Some(installed.version),
            floor: installed.floor,
            heartbeats,
            ..Ports::new(Arc::clone(&bus.port), rows.records, rows.waiting, rows.lease, stores)
        };
        Wired {
            roles: config.roles.to_string(),
            publisher: Publisher::new(bus.port, limits),
            ports,
            capture: rows.capture,
            installation: rows.installation,
            installed,
            file: rows.home.file().map(|embedded| embedded.file.clone()),
        }
    }
}

/// Runs blocking work on a thread of the blocking pool. A panic in it is resumed here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_embedded() {
            return f.write_str("embedded");
        }
        let rows = if self.postgres.is_some() { "PostgreSQL" } else { "the embedded file" };
        let bus = if self.redis.is_some() { "Redis" } else { rows };
        write!(f, "rows in {rows}, bus in {bus}")?;
        if self.qdrant.is_some() {
            f.write_str(", vectors in Qdrant")?;
        }
        if self.neo4j.is_some() {
            f.write_str(", graph in Neo4j")?;
        }
        Ok(())
    }
}
