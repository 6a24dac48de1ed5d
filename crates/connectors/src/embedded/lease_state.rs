//! The state of the lease of the directory, in the memory of the process that has the directory open.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_sync_engine::ports::LeaseState;
use uuid::Uuid;

/// The state of the lease.
#[derive(Debug)]
pub(super) struct HeldLease(Mutex<LeaseState>);

impl Default for HeldLease {
    fn default() -> Self {
        Self(Mutex::new(LeaseState { token: None, heartbeat: 0, holder: String::new() }))
    }
}

impl HeldLease {
    /// Whether `token` holds the lease.
    pub(super) fn is(&self, token: Uuid) -> bool {
        self.lock().token == Some(token)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LeaseState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(state: &mut LeaseState, token: Option<Uuid>) {
        let holder = format!("pid {}", std::process::id());
        *state = LeaseState { token, heartbeat: state.heartbeat + 1, holder };
    }
}
