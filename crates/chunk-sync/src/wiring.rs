//! From configuration to the things beyond the seams: one file for each role, and one for what makes them an installation.

mod bus;
mod examine;
mod installation;
mod rows;
mod stores;

use std::sync::Arc;

use chunk_sync_connectors::embedded::EmbeddedFile;
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Installation, Installed};
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Target;
use tracing::warn;

use crate::config::{Config, Roles};

pub(crate) use examine::{examine, statements};
pub(crate) use installation::install;

/// What a command does with the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It works the stream.
    Run,
    /// It puts events on the bus, which it may be the first to do.
    Publish,
    /// It reads, and perhaps puts events on the bus, beside whatever works the stream.
    Beside,
}

/// The stores and the bus, open, and the one way in.
pub(crate) struct Wired {
    /// Where each role is kept, for people.
    pub(crate) roles: String,
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
    /// What others write into the system of record, where that can be captured.
    pub(crate) capture: Option<Arc<dyn Capture>>,
    /// The record of the installation.
    pub(crate) installation: Arc<dyn Installation>,
    /// What is recorded.
    pub(crate) installed: Installed,
    /// The embedded file, where rows and records are in one.
    pub(crate) file: Option<EmbeddedFile>,
}

impl Wired {
    /// Makes this process the one that works the stream, where its bus or rows are embedded.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), naming the process, where another one works it.
    pub(crate) async fn work(&self, command: &'static str) -> Result<(), Fault> {
        match self.file.clone() {
            Some(file) => blocking(move || file.work(command)).await,
            None => Ok(()),
        }
    }

    /// The store of that name, which the installation must have.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured), naming the stores that there are.
    pub(crate) fn must_have(&self, target: Target) -> Result<(), Fault> {
        if self.ports.targets().contains(&target) {
            return Ok(());
        }
        let message = format!("this installation has no {target}: it has {}", self.installed.stores);
        Err(Fault::new(FaultClass::Misconfigured, "installation", message))
    }
}

/// Opens what the configuration names, for the command of that name, and checks that it is this installation. Nothing is
/// created but the embedded file, by commands that may, and the group of the stream by the one that works it.
pub(crate) async fn open(config: &Config, purpose: Purpose, command: &'static str) -> Result<Wired, Fault> {
    let opened = Opened::of(config, Access::of(purpose), command).await?;
    let installed = installation::check(&opened, &config.roles, purpose).await?;
    if purpose == Purpose::Run {
        opened.bus.port.prepare().await?;
    }
    Ok(opened.wire(config, installed))
}

/// How the embedded file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// By the process that works the directory.
    Work,
    /// Beside it; it is created if need be.
    Create,
    /// Beside it, where it exists.
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

/// Every role, open, before it is known whether they are one installation.
struct Opened {
    rows: rows::Rows,
    bus: bus::OpenBus,
    stores: Vec<stores::OpenStore>,
}

impl Opened {
    async fn of(config: &Config, access: Access, command: &'static str) -> Result<Self, Fault> {
        let (roles, limits) = (&config.roles, Arc::new(config.settings.limits.clone()));
        if roles.allow_insecure {
            warn!("allow_insecure is set: servers on other machines are spoken to without TLS or password");
        }
        let rows = rows::open(roles, &limits, access, command).await?;
        let bus = bus::open(roles, &rows)?;
        let stores = stores::open(roles, &rows, &limits)?;
        Ok(Self { rows, bus, stores })
    }

    fn wire(self, config: &Config, installed: Installed) -> Wired {
        let Self { rows, bus, stores } = self;
        let limits = Arc::new(config.settings.limits.clone());
        let ports = Ports {
            bus: Arc::clone(&bus.port),
            records: rows.records,
            lease: rows.lease,
            stores: stores.into_iter().map(|store| store.checked(installed.id)).collect(),
            set: Some(installed.version),
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

/// Work that blocks, on a thread that may.
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
