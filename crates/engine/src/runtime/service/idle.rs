//! Waits until no work is left.

use super::{LOOK, Service};
use crate::ports::{Fault, FinishedBy};
use crate::runtime::active::Shared;
use crate::runtime::health::Health;

impl Service {
    /// Waits until the bus is empty, everything read from it is completed, and no event waits. If the merge finishes entries, also until
    /// every store that answers has received its writes from the outbox.
    ///
    /// # Errors
    /// - The fault of the worker, if it ended before that.
    /// - The fault of the bus or of the system of record, if one of them does not answer.
    /// - The last refusal, if nearly all chunks have been refused for longer than the patience with a failing store,
    ///   because that may last until the operator acts.
    pub async fn until_idle(&self) -> Result<(), Fault> {
        let shared = &self.shared;
        loop {
            let changed = shared.progress.changed.notified();
            if let Some(result) = self.health().ended {
                return result;
            }
            if let Some(fault) = shared.lasting_refusal() {
                return Err(fault);
            }
            let depth = shared.ports.bus.depth().await?;
            let health = self.health();
            let started = health.recovered.is_some() || health.stands_by();
            let waits = shared.progress.done().under_way > 0 || shared.room.len() > 0;
            let carried = started && depth.unread == 0 && depth.pending == 0 && !waits;
            if carried && self.is_drained(&health).await? {
                return Ok(());
            }
            // The notification is the common case; the timeout covers what another process finishes.
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }

    /// Whether the outbox has nothing more for stores that answer. If an acknowledgement finishes entries, the log has
    /// what is under way, and the outbox has only what stores have missed for long.
    async fn is_drained(&self, health: &Health) -> Result<bool, Fault> {
        let Shared { ports, settings, .. } = &self.shared;
        if ports.bus.finished_by() == FinishedBy::Acknowledgement {
            return Ok(true);
        }
        let (counts, patience) = (ports.records.outbox_counts().await?, settings.worker.patience.as_secs_f64());
        Ok(health.stores.iter().all(|(target, condition)| {
            let failing = condition.failing.as_ref().map(|(since, _)| ports.clock.now().seconds_since(*since));
            let pending = counts.get(target).copied().unwrap_or_default();
            condition.behind
                || failing.is_some_and(|seconds| seconds > patience)
                || pending <= condition.refused + condition.heavy
        }))
    }
}
