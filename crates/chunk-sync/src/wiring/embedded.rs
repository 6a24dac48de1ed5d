//! The embedded mode: everything in this process, below one directory.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_connectors::embedded;
use chunk_sync_engine::ports::{Fault, Finding};
use chunk_sync_model::Limits;

use super::Wired;

pub(super) async fn examine(dir: &Path) -> Vec<Finding> {
    let dir = dir.to_owned();
    let looked = super::in_time("embedded", async move {
        let looked = tokio::task::spawn_blocking(move || embedded::examine(&dir)).await;
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    });
    #[allow(unused_mut, reason = "a build with the engine has nothing to add")]
    let mut found = looked.await;
    #[cfg(not(feature = "edge"))]
    {
        let mut findings = chunk_sync_engine::ports::Findings::of("embedded");
        findings.failed("vectors", "this build is without their engine", REMEDY);
        found.extend(findings.into_list());
    }
    found
}

#[cfg(not(feature = "edge"))]
const REMEDY: &str = "name the servers' URLs, or build it with `--features edge`, which is the default";

#[cfg(feature = "edge")]
pub(super) async fn open(dir: &Path, command: &str, limits: &Arc<Limits>) -> Result<Wired, Fault> {
    use chunk_sync_connectors::embedded::{Embedded, MAX_BACKLOG};
    use chunk_sync_edge::EdgeStore;
    use chunk_sync_engine::{Ports, Publisher};

    let (dir, command, limits) = (dir.to_owned(), command.to_owned(), Arc::clone(limits));
    let opened = tokio::task::spawn_blocking(move || {
        let embedded = Embedded::open(&dir, &command, MAX_BACKLOG)?;
        let vectors = EdgeStore::open(&dir.join("vectors"), Arc::clone(&limits))?;
        let publisher = Publisher::new(Arc::clone(&embedded.bus) as _, limits);
        let stores: Vec<Arc<dyn chunk_sync_engine::ports::Store>> = vec![Arc::new(vectors.clone()), embedded.graph];
        let ports = Ports { bus: embedded.bus, records: embedded.rows, stores };
        Ok(Wired { mode: "embedded", ports, publisher, capture: None, bus: None, vectors: Some(vectors) })
    });
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(not(feature = "edge"))]
pub(super) async fn open(_: &Path, _: &str, _: &Arc<Limits>) -> Result<Wired, Fault> {
    let message = format!("this build is without the embedded vector engine: {REMEDY}");
    Err(Fault::new(chunk_sync_engine::ports::FaultClass::Misconfigured, "embedded mode", message))
}
