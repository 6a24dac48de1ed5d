//! Logs of the system of record that confirm too early or hide gaps.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, Opened, Position, Positions, Source};

/// Confirms everything that is read.
pub(super) struct ConfirmsEarly(pub(super) Arc<dyn Capture>);

#[async_trait]
impl Capture for ConfirmsEarly {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let Opened { source, positions, gap } = self.0.open().await?;
        let source = Box::new(Hasty { source, positions: Arc::clone(&positions) });
        Ok(Opened { source, positions, gap })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.0.heartbeat().await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        self.0.lag().await
    }
}

struct Hasty {
    source: Box<dyn Source>,
    positions: Arc<dyn Positions>,
}

#[async_trait]
impl Source for Hasty {
    async fn next(&mut self) -> Result<Captured, Fault> {
        let captured = self.source.next().await?;
        // Not even the end of the transaction has arrived.
        self.positions.note(captured.commit).await?;
        self.source.confirm(captured.commit);
        Ok(captured)
    }

    fn confirm(&mut self, position: Position) {
        self.source.confirm(position);
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
