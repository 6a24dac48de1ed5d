//! The trial of a suspect: the delay before it is carried, and its acquittal. `suspects.rs` has the reasons.

use tracing::warn;
use uuid::Uuid;

use crate::pipeline::suspects::{LONGEST_DELAY, SUSPECT};
use crate::pipeline::worker::Worker;
use crate::ports::{Delivery, EntryId, Fault};
use crate::runtime::retry::retry;

impl Worker {
    /// Waits for a random time, in which a death does not count for the entry; false if the worker was stopped first.
    pub(super) async fn delay(&self, suspect: &Delivery) -> Result<bool, Fault> {
        let (id, attempt) = (suspect.id, suspect.attempt);
        let longest = self.settings.worker.deadly_within * LONGEST_DELAY;
        let delay = longest.mul_f64(f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX));
        warn!(entry = %id, attempt, ?delay, "the process died repeatedly while it had this event; carrying it after a delay");
        Ok(self.recount(id, SUSPECT).await?
            && self.stop.during(tokio::time::sleep(delay)).await.is_some()
            && self.recount(id, attempt).await?)
    }

    /// Lets the count of an entry that is carried now begin again after `deadly_within`, if it is unfinished then.
    pub(super) async fn acquit(self, id: EntryId) {
        if self.stop.during(tokio::time::sleep(self.settings.worker.deadly_within)).await.is_some()
            && let Err(fault) = self.recount(id, 1).await
        {
            warn!(entry = %id, %fault, "the event keeps its count of deliveries");
        }
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<bool, Fault> {
        let set = retry(&self.settings.worker, &self.stop, "recount", || self.bus.recount(id, attempt)).await?;
        Ok(set.is_some())
    }
}
