//! The lease of the embedded stores. The lock on the directory lets one process work it, so the lease is kept in the memory of
//! that process, next to its connection that writes; the file holds nothing of it. A process that begins to work the
//! directory finds a lease that was never held and assumes that the previous process may have died.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Lease, LeaseState};
use uuid::Uuid;

use super::database::Database;
use super::lease_state::HeldLease;

/// The lease of a directory.
pub struct EmbeddedLease {
    database: Arc<Database>,
}

impl EmbeddedLease {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Lease for EmbeddedLease {
    async fn state(&self) -> Result<LeaseState, Fault> {
        Ok(self.database.lease.lock().clone())
    }

    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault> {
        if !self.database.is_worked_here() {
            let message = "this process does not hold the lock of the directory: another one may work it";
            return Err(Fault::new(FaultClass::Busy, "embedded lease", message));
        }
        let (database, seen) = (Arc::clone(&self.database), seen.clone());
        let take = move || {
            // A merge holds the writer until it is committed, so the takeover waits for it.
            let _merges = database.writer();
            let mut state = database.lease.lock();
            let free = *state == seen;
            if free {
                HeldLease::set(&mut state, Some(token));
            }
            free || state.token == Some(token)
        };
        let taken = tokio::task::spawn_blocking(take).await;
        taken.map_err(|panic| Fault::new(FaultClass::Corrupt, "embedded lease", panic))
    }

    async fn renew(&self, token: Uuid) -> Result<bool, Fault> {
        let mut state = self.database.lease.lock();
        let holds = state.token == Some(token);
        if holds {
            HeldLease::set(&mut state, Some(token));
        }
        Ok(holds)
    }

    async fn release(&self, token: Uuid) -> Result<(), Fault> {
        let mut state = self.database.lease.lock();
        if state.token == Some(token) {
            HeldLease::set(&mut state, None);
        }
        Ok(())
    }
}
