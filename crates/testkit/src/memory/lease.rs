//! The lease in memory, beside the rows of [`MemoryRecords`](super::MemoryRecords).

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Lease, LeaseState};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use uuid::Uuid;

/// The lease as the system of record holds it.
pub(super) struct Table {
    state: Mutex<LeaseState>,
    /// Held shared by merges, exclusively by takeovers.
    merging: Arc<RwLock<()>>,
}

impl Default for Table {
    fn default() -> Self {
        let state = LeaseState { token: None, heartbeat: 0, holder: String::new() };
        Self { state: Mutex::new(state), merging: Arc::default() }
    }
}

impl Table {
    /// The first step of a merge: the lease cannot be taken while the guard lives.
    pub(super) async fn fence(&self, token: Uuid) -> Result<OwnedRwLockReadGuard<()>, Fault> {
        let shared = Arc::clone(&self.merging).read_owned().await;
        if self.is_held_by(token) {
            return Ok(shared);
        }
        Err(Fault::new(FaultClass::Busy, "memory", "another process holds the lease"))
    }

    fn is_held_by(&self, token: Uuid) -> bool {
        self.state.lock().unwrap().token == Some(token)
    }
}

/// The lease as one process sees it.
#[derive(Clone)]
pub struct MemoryLease {
    table: Arc<Table>,
    holder: String,
    hasty: bool,
}

impl MemoryLease {
    pub(super) fn new(table: Arc<Table>, holder: &str) -> Self {
        Self { table, holder: holder.to_owned(), hasty: false }
    }

    /// The same with a flaw: it is taken without waiting for running merges.
    #[must_use]
    pub fn hasty(self) -> Self {
        Self { hasty: true, ..self }
    }

    /// Whether that token holds it at this moment.
    #[must_use]
    pub fn is_held_by(&self, token: Uuid) -> bool {
        self.table.is_held_by(token)
    }

    fn set(&self, token: Option<Uuid>) {
        let mut state = self.table.state.lock().unwrap();
        *state = LeaseState { token, heartbeat: state.heartbeat + 1, holder: self.holder.clone() };
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn state(&self) -> Result<LeaseState, Fault> {
        Ok(self.table.state.lock().unwrap().clone())
    }

    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault> {
        let _alone = if self.hasty { None } else { Some(self.table.merging.write().await) };
        if self.is_held_by(token) {
            return Ok(true);
        }
        let moved = *self.table.state.lock().unwrap() != *seen;
        if !moved {
            self.set(Some(token));
        }
        Ok(!moved)
    }

    async fn renew(&self, token: Uuid) -> Result<bool, Fault> {
        let holds = self.is_held_by(token);
        if holds {
            self.set(Some(token));
        }
        Ok(holds)
    }

    async fn release(&self, token: Uuid) -> Result<(), Fault> {
        if self.is_held_by(token) {
            self.set(None);
        }
        Ok(())
    }
}
