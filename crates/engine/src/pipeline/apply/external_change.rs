//! Writes of other programs into the system of record, merged as changes by the writer `postgres`.
//!
//! The record keeps the digest of the row that was last written or read. A row with another digest was written by
//! another program: it is merged as a view of its own before anything else of its chunk, so that no merge overwrites it
//! undetected. A captured event is only the signal to read the row.

use std::sync::Arc;

use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::merge::{Change, Merged, Strategies, merge, stored_as};
use chunk_sync_model::{Chunk, EventType, Hash, PartPattern, Record, State, Time, Writer};
use uuid::Uuid;

use crate::ports::CurrentState;

/// When a row was written, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// The commit time of its transaction; the current time if no captured event states it.
    pub(crate) at: Time,
    /// How far after `at` the row's own `updated_at` may lie to be accepted, in microseconds.
    pub(crate) max_ahead: i64,
}

/// The digest of a row.
pub(crate) fn digest(state: Option<&State>) -> Option<Hash> {
    state.map(|state| row_fingerprint(state).digest())
}

/// Merges the row as it stands, if it is not the one that was last written or read; else returns `held` as `Err`. `row` is
/// its digest. The row has no opinion on the parts in `unstated`.
pub(crate) fn detect_external_change(
    id: Uuid,
    held: CurrentState,
    row: Option<Hash>,
    written: Written,
    unstated: &[PartPattern],
    strategies: &Strategies,
) -> Result<Merged, CurrentState> {
    let lives = held.record.as_ref().is_some_and(Record::lives);
    // A deleted chunk without a row is as it should be, whatever row was last seen.
    if row == held.row || (row.is_none() && !lives) {
        return Err(held);
    }
    let known = held.record.as_ref().and_then(Record::updated_at);
    let mut view = held.state.as_deref().map(|state| state.chunk.clone().into_view());
    let time = after(held.record.as_ref(), time(view.as_ref(), known, written));
    let ahead = view.as_mut().is_some_and(|view| bound(view, written, time));
    let view = view.as_ref();
    let change = Change {
        writer: Writer::Postgres,
        time,
        // The same row is the same change, however often it is read.
        event: Uuid::new_v5(&id, row.map(|row| *row.bytes()).unwrap_or_default().as_slice()),
        kind: if view.is_some() { EventType::Update } else { EventType::Delete },
        view,
        unchanged: unstated,
        set: &[],
    };
    let mut merged = merge(held.record, held.state.clone(), &change, strategies).renewed();
    if let (true, Some(state), Some(row)) = (ahead, &merged.state, &held.state) {
        // The row goes on showing its own times.
        let mut shown = State::clone(state);
        shown.chunk.metadata.created_at = row.chunk.metadata.created_at;
        shown.chunk.metadata.updated_at = row.chunk.metadata.updated_at;
        merged.record = stored_as(merged.record, state, &shown, strategies);
        merged.state = Some(Arc::new(shown));
    }
    Ok(merged)
}

/// Replaces an `updated_at` that lies too far ahead by the time of the change: it would remain the newest for ever.
fn bound(view: &mut Chunk, written: Written, time: Time) -> bool {
    let metadata = &mut view.metadata;
    let ahead = metadata.updated_at.micros() > written.at.micros().saturating_add(written.max_ahead);
    if ahead {
        metadata.updated_at = time;
        metadata.created_at = metadata.created_at.min(time);
    }
    ahead
}

/// The row's `updated_at` if it moved forward and is not too far ahead, else the time of the write.
fn time(view: Option<&Chunk>, known: Option<Time>, written: Written) -> Time {
    let latest = written.at.micros().saturating_add(written.max_ahead);
    let said = view.map(|chunk| chunk.metadata.updated_at);
    let moved = said.filter(|said| known.is_none_or(|known| *said > known) && said.micros() <= latest);
    moved.unwrap_or(written.at)
}

/// The program that wrote the row had all of the row before it: its change is later than the newest one, whatever the
/// clocks show.
fn after(record: Option<&Record>, time: Time) -> Time {
    record.map_or(time, |record| time.max(Time::from_micros(record.newest_change().micros().saturating_add(1))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use chunk_sync_model::merge::Effect;
    use chunk_sync_model::{Body, Event, Limits};
    use serde_json::json;

    use super::*;

    /// In the year 2033.
    fn written() -> Written {
        Written { at: Time::from_micros(2_000_000_000_000_000), max_ahead: 300_000_000 }
    }

    fn state(content: &str, updated_at: &str) -> Arc<State> {
        let json = json!({
            "id": Uuid::max(), "system_origin": "claude", "content": content, "chunk_type": "text",
            "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 },
            "organization": {}, "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": updated_at },
        });
        let Body::Chunk(chunk) = Event::from_json(&json.to_string(), &Limits::default()).unwrap().body else {
            panic!("a chunk");
        };
        Arc::new(State { chunk: *chunk, embedding_stale: false })
    }

    /// What is held after the writer `claude` wrote the chunk through the service.
    fn held(state: &Arc<State>) -> CurrentState {
        let event = Event::of_chunk(state.chunk.clone());
        let merged = merge(None, None, &Change::from(&event), &Strategies::default());
        let row = digest(merged.state.as_deref());
        CurrentState { record: Some(merged.record), state: merged.state, row, absence: None }
    }

    fn detect(held: CurrentState, written: Written) -> Result<Merged, CurrentState> {
        let row = digest(held.state.as_deref());
        detect_external_change(Uuid::max(), held, row, written, &[], &Strategies::default())
    }

    #[test]
    fn a_row_as_it_was_last_written_is_no_change() {
        let held = held(&state("as it was written", "2026-01-02T00:00:00Z"));
        assert!(detect(held, written()).is_err());
        assert!(detect(CurrentState::default(), written()).is_err());
    }

    #[test]
    fn another_row_is_a_change_by_the_writer_postgres() {
        let mut held = held(&state("as it was written", "2026-01-02T00:00:00Z"));
        let before = held.record.as_ref().unwrap().version;
        let row = state("what another program wrote", "2026-01-03T00:00:00Z");
        held.state = Some(Arc::clone(&row));
        let merged = detect(held, written()).unwrap();
        assert_eq!((merged.effect, merged.state.as_deref()), (Effect::Shown, Some(&*row)));
        assert!(merged.record.version > before);
        let last = merged.record.writers[&Writer::Postgres].last;
        assert_eq!(last, row.chunk.metadata.updated_at, "`updated_at` moved forward and is accepted");
    }

    #[test]
    fn a_time_that_did_not_move_or_lies_ahead_is_not_accepted() {
        for updated_at in ["2026-01-02T00:00:00Z", "2026-01-01T06:00:00Z", "2099-01-01T00:00:00Z"] {
            let mut held = held(&state("as it was written", "2026-01-02T00:00:00Z"));
            held.state = Some(state("what another program wrote", updated_at));
            let merged = detect(held, written()).unwrap();
            assert_eq!(merged.record.writers[&Writer::Postgres].last, written().at, "{updated_at}");
        }
    }

    #[test]
    fn a_write_on_top_of_a_row_is_later_whatever_the_clocks_show() {
        let mut held = held(&state("as it was written", "2026-01-02T00:00:00Z"));
        let row = state("what another program wrote", "2026-01-02T00:00:00Z");
        held.state = Some(Arc::clone(&row));
        let early = Written { at: Time::from_micros(1_000_000), ..written() };
        let merged = detect(held, early).unwrap();
        assert_eq!(merged.state.unwrap().chunk.content, row.chunk.content);
    }

    #[test]
    fn a_row_that_is_gone_is_a_delete() {
        let held = CurrentState { state: None, ..held(&state("as it was written", "2026-01-02T00:00:00Z")) };
        let merged = detect(held, written()).unwrap();
        assert!(merged.state.is_none() && !merged.record.lives());
    }

    #[test]
    fn a_row_that_no_merge_has_seen_is_a_chunk() {
        let held = CurrentState {
            state: Some(state("there before the service", "2026-01-02T00:00:00Z")),
            ..CurrentState::default()
        };
        let merged = detect(held, written()).unwrap();
        assert!(merged.state.is_some() && merged.record.lives());
    }
}
