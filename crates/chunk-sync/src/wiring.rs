//! From configuration to the things beyond the seams.

mod embedded;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Finding, Findings};
use chunk_sync_engine::{Ports, Publisher};
use tokio::time::timeout;

use crate::config::{Config, Mode};

/// The stores and the bus, open and prepared, and the one way in.
pub(crate) struct Wired {
    /// For people.
    pub(crate) mode: &'static str,
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
    /// What others write into the system of record, where that can be captured.
    pub(crate) capture: Option<Arc<dyn Capture>>,
}

/// Opens what the configuration names, for the command of that name. The system of record and the bus are prepared; the
/// other stores are when they are first written to, for one that is down must not keep the rest from starting.
pub(crate) async fn open(config: &Config, command: &str) -> Result<Wired, Fault> {
    let limits = Arc::new(config.settings.limits.clone());
    let wired = match &config.mode {
        Mode::Embedded { dir } => embedded::open(dir, command, &limits).await?,
        Mode::Servers(servers) => servers::open(servers, &limits).await?,
    };
    wired.ports.records.prepare().await?;
    wired.ports.bus.prepare().await?;
    Ok(wired)
}

/// How long an examination of one server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What each store and the bus are found to be like; nothing is opened for it, created or changed.
pub(crate) async fn examine(config: &Config) -> Vec<Finding> {
    match &config.mode {
        Mode::Embedded { dir } => embedded::examine(dir).await,
        Mode::Servers(servers) => servers::examine(servers, &Arc::new(config.settings.limits.clone())).await,
    }
}

/// The findings of a place, if they come in time. The clients' futures are large: they live on the heap.
fn in_time(place: &'static str, examination: impl Future<Output = Vec<Finding>>) -> impl Future<Output = Vec<Finding>> {
    let examination = timeout(PATIENCE, Box::pin(examination));
    async move {
        examination.await.unwrap_or_else(|_| {
            let mut findings = Findings::of(place);
            let message = format!("not examined within {} s", PATIENCE.as_secs());
            findings.fault("server", &Fault::new(FaultClass::Timeout, place, message));
            findings.into_list()
        })
    }
}

/// The statements by which [`open`] and the preparation of the stores would create what is missing, each with its store.
/// What the others are asked for is printed whole, for they only create what is not there.
pub(crate) async fn statements(config: &Config) -> Result<Vec<(&'static str, String)>, Fault> {
    match &config.mode {
        Mode::Embedded { .. } => Ok(Vec::new()),
        Mode::Servers(servers) => servers::statements(servers, &Arc::new(config.settings.limits.clone())).await,
    }
}
