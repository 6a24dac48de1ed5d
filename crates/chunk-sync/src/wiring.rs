//! From configuration to the things beyond the seams.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_engine::ports::Fault;
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Limits;

use crate::config::{Config, Mode};

/// The stores and the bus, open and prepared, and the one way in.
pub(crate) struct Wired {
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
}

/// Opens what the configuration names, for the command of that name.
pub(crate) async fn open(config: &Config, command: &str) -> Result<Wired, Fault> {
    let limits = Arc::new(config.settings.limits.clone());
    let ports = match &config.mode {
        Mode::Embedded { dir } => embedded(dir, command, &limits).await?,
        Mode::Servers(_) => return Err(no_servers()),
    };
    ports.prepare().await?;
    let publisher = Publisher::new(Arc::clone(&ports.bus), limits);
    Ok(Wired { ports, publisher })
}

#[cfg(feature = "edge")]
async fn embedded(dir: &Path, command: &str, limits: &Arc<Limits>) -> Result<Ports, Fault> {
    use chunk_sync_connectors::embedded::{Embedded, MAX_BACKLOG};
    use chunk_sync_edge::EdgeStore;

    let (dir, command, limits) = (dir.to_owned(), command.to_owned(), Arc::clone(limits));
    let opened = tokio::task::spawn_blocking(move || {
        let embedded = Embedded::open(&dir, &command, MAX_BACKLOG)?;
        let vectors = EdgeStore::open(&dir.join("vectors"), limits)?;
        Ok(Ports { bus: embedded.bus, records: embedded.rows, stores: vec![Arc::new(vectors), embedded.graph] })
    });
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(not(feature = "edge"))]
async fn embedded(_: &Path, _: &str, _: &Arc<Limits>) -> Result<Ports, Fault> {
    let message = "this build is without the embedded vector engine: name the servers' URLs, or build it with \
        `--features edge`, which is the default";
    Err(Fault::new(chunk_sync_engine::ports::FaultClass::Misconfigured, "embedded mode", message))
}
