//! The decision on one noted chunk, from the note and from what the system of record shows now: pure.

use std::time::Duration;

use chunk_sync_model::Time;

use crate::ports::{AbsentRow, Row};

/// The least time between the note and the second look.
pub const SECOND_LOOK: Duration = Duration::from_secs(600);

/// How long the note on a chunk is kept that was deleted while its row could not be seen.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What to do with a noted chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The row is there: it is merged, and the merge removes the note.
    ShownAgain,
    /// The chunk does not live any more: the note is removed.
    Forget,
    /// The deletion is approved and not merged yet.
    Delete,
    /// A candidate is still absent after long enough.
    Confirm,
    /// Nothing yet, or nothing ever without the operator.
    Wait,
}

/// Looks at a noted chunk; `row` is what the system of record holds at `at`.
pub(super) fn look(noted: &AbsentRow, row: Option<&Row>, at: Time) -> Look {
    match row {
        // It shows again; its merge is refused until it is shorter.
        Some(row) if row.oversize => Look::Wait,
        Some(row) if row.state.is_some() => Look::ShownAgain,
        Some(row) if row.lives == Some(true) => absent(noted, at),
        // Deleted while its row could not be seen: if the row shows again, it is deleted too.
        Some(row) if row.lives == Some(false) && waited(noted, at) < KEPT => Look::Wait,
        _ => Look::Forget,
    }
}

fn waited(noted: &AbsentRow, at: Time) -> Duration {
    let micros = at.micros().saturating_sub(noted.noted_at.micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn absent(noted: &AbsentRow, at: Time) -> Look {
    let long_enough = waited(noted, at) >= SECOND_LOOK;
    match noted {
        AbsentRow { approved: true, .. } => Look::Delete,
        AbsentRow { confirmed: false, cause, .. } if cause.is_candidate() && long_enough => Look::Confirm,
        _ => Look::Wait,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Arc;

    use chunk_sync_model::{Body, Event, Limits, State, SyncVersion};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::ports::{AbsenceCause, Position};

    fn at(minutes: i64) -> Time {
        Time::from_micros(2_000_000_000_000_000 + minutes * 60_000_000)
    }

    fn noted(cause: AbsenceCause) -> AbsentRow {
        let (id, position) = (Uuid::max(), Position(7));
        AbsentRow { id, cause, noted_at: at(0), position, confirmed: false, approved: false }
    }

    fn row(lives: Option<bool>, state: Option<Arc<State>>) -> Row {
        Row { id: Uuid::max(), version: SyncVersion::default(), lives, seen: None, state, oversize: false }
    }

    fn state() -> Arc<State> {
        let json = json!({
            "id": Uuid::max(), "system_origin": "claude", "content": "some content", "chunk_type": "text",
            "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 },
            "organization": {},
            "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z" },
        });
        let Body::Chunk(chunk) = Event::from_json(&json.to_string(), &Limits::default()).unwrap().body else {
            panic!("a chunk");
        };
        Arc::new(State { chunk: *chunk, embedding_stale: false })
    }

    #[test]
    fn only_a_candidate_is_confirmed_and_only_after_ten_minutes() {
        let living = row(Some(true), None);
        for cause in AbsenceCause::ALL {
            assert_eq!(look(&noted(cause), Some(&living), at(9)), Look::Wait, "{cause:?}");
            let later = if cause.is_candidate() { Look::Confirm } else { Look::Wait };
            assert_eq!(look(&noted(cause), Some(&living), at(10)), later, "{cause:?}");
            assert_eq!(look(&noted(cause), Some(&living), at(100_000)), later, "{cause:?}");
        }
    }

    #[test]
    fn a_clock_that_stepped_back_confirms_nothing() {
        assert_eq!(look(&noted(AbsenceCause::Missed), Some(&row(Some(true), None)), at(-100)), Look::Wait);
    }

    #[test]
    fn an_approved_chunk_is_deleted_only_while_its_row_is_absent() {
        let approved = AbsentRow { confirmed: true, approved: true, ..noted(AbsenceCause::Missed) };
        assert_eq!(look(&approved, Some(&row(Some(true), None)), at(0)), Look::Delete);
        assert_eq!(look(&approved, Some(&row(Some(true), Some(state()))), at(0)), Look::ShownAgain);
        let oversize = Row { oversize: true, ..row(Some(true), None) };
        assert_eq!(look(&approved, Some(&oversize), at(0)), Look::Wait, "the row is there");
    }

    #[test]
    fn a_confirmed_candidate_waits_for_its_approval() {
        let confirmed = AbsentRow { confirmed: true, ..noted(AbsenceCause::Missed) };
        assert_eq!(look(&confirmed, Some(&row(Some(true), None)), at(60)), Look::Wait);
    }

    #[test]
    fn a_chunk_that_was_deleted_meanwhile_is_forgotten() {
        for gone in [None, Some(row(None, None))] {
            assert_eq!(look(&noted(AbsenceCause::Merge), gone.as_ref(), at(60)), Look::Forget);
        }
        let deleted = row(Some(false), None);
        assert_eq!(look(&noted(AbsenceCause::Merge), Some(&deleted), at(60)), Look::Wait);
        assert_eq!(look(&noted(AbsenceCause::Merge), Some(&deleted), at(8 * 24 * 60)), Look::Forget);
    }
}
