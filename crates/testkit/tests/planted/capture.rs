//! Logs of the system of record that confirm too early or hide gaps.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, Opened, Position, Source};

/// Confirms everything that is read.
pub(super) struct ConfirmsEarly(pub(super) Arc<dyn Capture>);

#[async_trait]
impl Capture for ConfirmsEarly {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let opened = self.0.open().await?;
        Ok(Opened { source: Box::new(Hasty(opened.source)), ..opened })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.0.heartbeat().await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        self.0.lag().await
    }
}

struct Hasty(Box<dyn Source>);

#[async_trait]
impl Source for Hasty {
    async fn next(&mut self) -> Result<Captured, Fault> {
        let captured = self.0.next().await?;
        // Not even the end of the transaction has arrived.
        self.0.note(captured.commit).await?;
        self.0.confirm(captured.commit);
        Ok(captured)
    }

    async fn note(&mut self, position: Position) -> Result<(), Fault> {
        self.0.note(position).await
    }

    async fn close_gap(&mut self) -> Result<(), Fault> {
        self.0.close_gap().await
    }

    fn confirm(&mut self, position: Position) {
        self.0.confirm(position);
    }
}

/// Reports no gap for changes that may have been missed.
pub(super) struct HidesGaps(pub(super) Arc<dyn Capture>);

#[async_trait]
impl Capture for HidesGaps {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn open(&self) -> Result<Opened, Fault> {
        Ok(Opened { gap: None, ..self.0.open().await? })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.0.heartbeat().await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        self.0.lag().await
    }
}
