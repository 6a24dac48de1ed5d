//! Whether the row of a chunk can be seen, and if not, whether anything shows that it was deleted: pure.

use crate::pipeline::envelope::Operation;
use crate::ports::CurrentState;
use chunk_sync_model::{EventType, Record};

/// What a merge makes of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The row is there, or the chunk does not live: nothing is missing.
    Clear,
    /// The row of a living chunk is absent, and a captured deletion or an approved one shows that it was deleted.
    Deleted,
    /// The row of a living chunk is absent, and nothing shows that it was deleted: row and stores stay.
    Unseen,
}

/// Judges the row that a merge read under its lock.
pub(super) fn of(current: &CurrentState, operations: &[&Operation]) -> Sight {
    let lives = current.record.as_ref().is_some_and(Record::lives);
    if current.state.is_some() || !lives {
        return Sight::Clear;
    }
    let approved = current.absence.is_some_and(|note| note.approved);
    if approved || operations.iter().any(|operation| is_captured_deletion(operation)) {
        return Sight::Deleted;
    }
    Sight::Unseen
}

/// A signal by capture that the row was deleted or the table truncated. A repair and a fill prove nothing.
pub(super) fn is_captured_deletion(operation: &Operation) -> bool {
    let captured = operation.is_signal() && !operation.is_repair() && !operation.is_fill();
    captured && operation.event.kind == EventType::Delete
}
