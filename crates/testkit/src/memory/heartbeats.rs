//! The last value of the guard in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, Heartbeat, Heartbeats};

/// A place outside of the database that keeps the last value. Its clones are the same place.
#[derive(Clone, Default)]
pub struct MemoryHeartbeats(Arc<Mutex<Option<Heartbeat>>>);

#[async_trait]
impl Heartbeats for MemoryHeartbeats {
    fn place(&self) -> String {
        "memory".into()
    }

    async fn noted(&self) -> Result<Option<Heartbeat>, Fault> {
        Ok(*self.0.lock().unwrap())
    }

    async fn note(&self, beat: Heartbeat) -> Result<(), Fault> {
        *self.0.lock().unwrap() = Some(beat);
        Ok(())
    }
}
