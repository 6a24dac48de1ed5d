//! From configuration to the things beyond the seams.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Limits;

use crate::config::{Config, Mode};

/// The stores and the bus, open and prepared, and the one way in.
pub(crate) struct Wired {
    /// For people.
    pub(crate) mode: &'static str,
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
    #[cfg(feature = "edge")]
    vectors: chunk_sync_edge::EdgeStore,
}

impl Wired {
    /// Puts in order what the embedded engine leaves until nobody writes; minutes where there is very much of it.
    #[cfg(feature = "edge")]
    pub(crate) async fn tidy(&self) -> Result<(), Fault> {
        let vectors = self.vectors.clone();
        let optimized = tokio::task::spawn_blocking(move || vectors.optimize()).await;
        optimized.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map(drop)
    }

    /// Servers keep themselves in order.
    #[cfg(not(feature = "edge"))]
    pub(crate) async fn tidy(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Opens what the configuration names, for the command of that name.
pub(crate) async fn open(config: &Config, command: &str) -> Result<Wired, Fault> {
    let limits = Arc::new(config.settings.limits.clone());
    let wired = match &config.mode {
        Mode::Embedded { dir } => embedded(dir, command, &limits).await?,
        Mode::Servers(_) => {
            let message = "servers are not served yet: set mode = \"embedded\"";
            return Err(Fault::new(FaultClass::Misconfigured, "servers", message));
        }
    };
    wired.ports.prepare().await?;
    Ok(wired)
}

#[cfg(feature = "edge")]
async fn embedded(dir: &Path, command: &str, limits: &Arc<Limits>) -> Result<Wired, Fault> {
    use chunk_sync_connectors::embedded::{Embedded, MAX_BACKLOG};
    use chunk_sync_edge::EdgeStore;

    let (dir, command, limits) = (dir.to_owned(), command.to_owned(), Arc::clone(limits));
    let opened = tokio::task::spawn_blocking(move || {
        let embedded = Embedded::open(&dir, &command, MAX_BACKLOG)?;
        let vectors = EdgeStore::open(&dir.join("vectors"), Arc::clone(&limits))?;
        let publisher = Publisher::new(Arc::clone(&embedded.bus) as _, limits);
        let stores: Vec<Arc<dyn chunk_sync_engine::ports::Store>> = vec![Arc::new(vectors.clone()), embedded.graph];
        let ports = Ports { bus: embedded.bus, records: embedded.rows, stores };
        Ok(Wired { mode: "embedded", ports, publisher, vectors })
    });
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(not(feature = "edge"))]
async fn embedded(_: &Path, _: &str, _: &Arc<Limits>) -> Result<Wired, Fault> {
    let message = "this build is without the embedded vector engine: name the servers' URLs, or build it with \
        `--features edge`, which is the default";
    Err(Fault::new(FaultClass::Misconfigured, "embedded mode", message))
}
