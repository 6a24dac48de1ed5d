//! What a merge must not do: reach the greatest sync version, or count without bound within one microsecond.

use crate::parse::Invalid;
use crate::record::MOST_AT_ONCE;
use crate::{Record, SyncVersion};

use super::Change;

/// Why the change cannot be merged into the record; `None` if it can. A late or repeated change can always be merged: it
/// changes nothing.
#[must_use]
pub fn refusal(record: Option<&Record>, change: &Change<'_>) -> Option<Invalid> {
    let time = u64::try_from(change.time.micros()).unwrap_or(0);
    if time >= SyncVersion::CEILING.get() {
        let message = format!("{} is too near to the greatest time that a version can have", change.time);
        return Some(Invalid::new("timestamp", format!("{message}; correct the publisher's clock")));
    }
    let record = record?;
    if !record.admits(change.writer, change.time, change.event) {
        return None;
    }
    if record.version >= SyncVersion::CEILING {
        let message = format!(
            "the sync version of the chunk, {}, is too near to the greatest possible one for another change; delete \
             the chunk's record by hand, then publish the chunk again",
            record.version
        );
        return Some(Invalid::new("chunk.id", message));
    }
    let history = record.writers.get(&change.writer)?;
    (history.last == change.time && history.seen.len() >= MOST_AT_ONCE).then(|| {
        let message = format!(
            "`{}` has changed the chunk {MOST_AT_ONCE} times at {}; give each change its own time",
            change.writer, change.time
        );
        Invalid::new("timestamp", message)
    })
}
