//! A log of the system of record that forgets too early.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, Position, Source};

/// Whatever is read is confirmed.
pub(super) struct ConfirmsEarly(pub(super) Arc<dyn Capture>);

#[async_trait]
impl Capture for ConfirmsEarly {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn open(&self) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Hasty(self.0.open().await?)))
    }

    async fn beat(&self) -> Result<(), Fault> {
        self.0.beat().await
    }
}

struct Hasty(Box<dyn Source>);

#[async_trait]
impl Source for Hasty {
    async fn next(&mut self) -> Result<Captured, Fault> {
        let captured = self.0.next().await?;
        self.0.confirm(captured.end);
        Ok(captured)
    }

    fn confirm(&mut self, position: Position) {
        self.0.confirm(position);
    }
}
