//! Delivers writes to one store: repeats what fails for a time, then leaves it to the outbox.

use tokio::time::Instant;

use super::access::StoreAccess;
use crate::ports::{Applied, Fault, Write};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::retry::Pauses;

/// The result of one write.
#[derive(Clone, Debug)]
pub(crate) enum WriteResult {
    /// The store holds it, or a newer one.
    Durable,
    /// The store misses it, and the outbox has it.
    Pending,
    /// The store can never take it.
    Refused(Fault),
}

/// Writes until each write is durable, refused or pending in the outbox; `None` where the term ended first.
pub(super) async fn deliver(access: &StoreAccess, writes: &[Write], enqueued: bool) -> Option<Vec<WriteResult>> {
    let mut results = Vec::with_capacity(writes.len());
    for batch in writes.chunks(access.settings.store_batch.max(1)) {
        results.extend(deliver_batch(access, batch, enqueued).await?);
    }
    Some(results)
}

async fn deliver_batch(access: &StoreAccess, batch: &[Write], enqueued: bool) -> Option<Vec<WriteResult>> {
    let mut results: Vec<Option<WriteResult>> = vec![None; batch.len()];
    let mut pauses = Pauses::new(&access.settings);
    // Patience is counted by the same timer as the pauses.
    let began = Instant::now();
    loop {
        let open: Vec<usize> = (0..batch.len()).filter(|i| results[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        // The failure time counts across terms: a store that failed through terms shorter than the patience gets no
        // new patience in each term.
        let failing_for = access.condition.failing_for().max(began.elapsed());
        let impatient = access.condition.is_behind() || failing_for > access.settings.patience;
        if impatient && access.leave(open.iter().map(|i| &batch[*i]), enqueued).await {
            open.iter().for_each(|i| results[*i] = Some(WriteResult::Pending));
            break;
        }
        let writes: Vec<Write> = open.iter().map(|i| batch[*i].clone()).collect();
        let answers = access.apply(&writes).await?;
        if answers.iter().any(Applied::is_durable) {
            failpoint::reached(CrashPoint::Stored);
        }
        for (i, answer) in open.iter().zip(answers) {
            results[*i] = match answer {
                Applied::Written | Applied::Skipped => Some(WriteResult::Durable),
                Applied::Failed(fault) if fault.class.is_transient() => None,
                Applied::Failed(fault) => Some(WriteResult::Refused(fault)),
            };
        }
        if results.iter().any(Option::is_none) {
            tokio::time::sleep(pauses.next()).await;
        }
    }
    Some(results.into_iter().flatten().collect())
}
