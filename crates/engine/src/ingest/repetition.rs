//! Finds the events that change nothing, for the answer to their publisher: the record has the event already, or a later
//! event of the same writer.

use chunk_sync_model::Event;
use uuid::Uuid;

use crate::ports::{Fault, Records, each_record};

/// Which of the events are repeated: as far as they are merged, not as far as they wait on the bus. In the order of the
/// events. Signals are never repeated.
///
/// # Errors
/// The system of record does not answer.
pub async fn repeated(records: &dyn Records, events: &[Event]) -> Result<Vec<bool>, Fault> {
    let mut ids: Vec<Uuid> = events.iter().map(Event::chunk_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = each_record(records, &ids).await?;
    let is_repeated = |event: &Event| {
        let place = ids.binary_search(&event.chunk_id()).ok();
        let record = place.and_then(|place| found.get(place)?.as_ref());
        record.is_some_and(|record| record.repeats(event.writer, event.time(), event.event_id))
    };
    Ok(events.iter().map(is_repeated).collect())
}
