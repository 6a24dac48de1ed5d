//! The embedded mode: everything in this process, below one directory.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_connectors::embedded::{self, Embedded, MAX_BACKLOG};
use chunk_sync_engine::ports::{Fault, Finding, Store};
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Limits;

use super::Wired;

pub(super) async fn examine(dir: &Path) -> Vec<Finding> {
    let dir = dir.to_owned();
    let examined = super::in_time("embedded", async move {
        let examined = tokio::task::spawn_blocking(move || embedded::examine(&dir)).await;
        examined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    });
    examined.await
}

pub(super) async fn open(dir: &Path, command: &str, limits: &Arc<Limits>) -> Result<Wired, Fault> {
    let (dir, command, limits) = (dir.to_owned(), command.to_owned(), Arc::clone(limits));
    let opened = tokio::task::spawn_blocking(move || {
        let embedded = Embedded::open(&dir, &command, Arc::clone(&limits), MAX_BACKLOG)?;
        let publisher = Publisher::new(Arc::clone(&embedded.bus) as _, limits);
        let stores: Vec<Arc<dyn Store>> = vec![embedded.vectors, embedded.graph];
        let ports = Ports { bus: embedded.bus, records: embedded.rows, lease: embedded.lease, stores };
        Ok(Wired { mode: "embedded", ports, publisher, capture: None })
    });
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
