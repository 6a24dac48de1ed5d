//! Events by `operator` set only parts of recorded conflicts. Any program can add such an event to the bus, and it
//! outranks what the systems publish: one that names another part goes to the dead letters before it is logged.
//!
//! The conflict need not be open any more: a decision may be reverted, and an entry may be delivered again after its
//! first delivery closed the conflict.

use std::collections::BTreeSet;

use chunk_sync_model::{Event, Part, PartPattern, Writer};

use crate::ports::{ConflictFilter, Fault, FaultClass, Records};

/// Conflicts read at once.
const PAGE: usize = 100;

/// Why an event by `operator` is refused; `None` for one that resolves recorded conflicts, and for other writers.
///
/// # Errors
/// The record of conflicts cannot be read.
pub(crate) async fn refusal(records: &dyn Records, event: &Event) -> Result<Option<Fault>, Fault> {
    if event.writer != Writer::Operator {
        return Ok(None);
    }
    let mut missing: BTreeSet<&Part> = event.set.iter().filter_map(part).collect();
    let mut filter = ConflictFilter { chunk: Some(event.chunk_id()), ..ConflictFilter::default() };
    while !missing.is_empty() {
        let page = records.conflicts(&filter, PAGE).await?;
        missing.retain(|part| page.entries.iter().all(|entry| entry.noted.conflict.part != **part));
        filter.below = page.next();
        if filter.below.is_none() {
            break;
        }
    }
    let refused = missing.first().map(|part| {
        let message = format!("no conflict of `{part}` is on record; `operator` sets only parts of recorded conflicts");
        Fault::new(FaultClass::Rejected, "event", message).at("set")
    });
    Ok(refused)
}

fn part(pattern: &PartPattern) -> Option<&Part> {
    match pattern {
        PartPattern::One(part) => Some(part),
        _ => None,
    }
}
