//! Chunks whose row cannot be seen. The chunk lives according to its record, and nothing shows that the row was
//! deleted: it may be hidden, in another table, or in a backup that is being restored. The record still merges events;
//! the state that they lead to is built when the row shows again.

use std::sync::Arc;

use crate::chunk::{Chunk, State};
use crate::{Part, PartPattern, Record, Time};

use super::conflict::Conflict;
use super::values::{Values, View};
use super::{Change, Effect, Merged, Strategies, assemble, change, detect, keep, show};

/// The result of a merge without the row.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// The new record. It has the values of the change itself, because no row has them.
    pub record: Record,
    /// Whether the change was late or a repetition.
    pub effect: Effect,
    /// The conflicts between this change and the changes of other writers, one per part.
    pub conflicts: Vec<Conflict>,
    /// The parts whose open conflict this change closed.
    pub decided: Vec<Part>,
}

/// Merges a change into the record of a living chunk whose row cannot be seen. The sync version stays: no store
/// receives anything.
#[must_use]
pub fn merge_unseen(mut record: Record, change: &Change<'_>, strategies: &Strategies) -> Unseen {
    if !record.admits(change.writer, change.time, change.event) {
        return Unseen { record, effect: Effect::Nothing, conflicts: Vec::new(), decided: Vec::new() };
    }
    let view = change.view.map(View::new);
    let values = Values::new(&mut record, None, view.as_ref());
    let before = show::show(&record, strategies, &values);
    let changed = change::apply(&mut record, &before, change, view.as_ref());
    let after = show::show(&record, strategies, &values);
    let conflicts = detect::conflicts(&record, &changed, &before, &after, strategies, &values);
    let decided = detect::decided(&changed, &before, &after);
    // Nothing is in a row, so every value that the change has is kept here.
    keep::keep_values(&mut record, &show::Shown::default(), strategies, &values);
    Unseen { record, effect: Effect::Remembered, conflicts, decided }
}

/// Builds the state of a chunk whose row shows again, from the row and from what was merged while it could not be seen.
#[must_use]
pub fn reassemble(mut record: Record, held: &Arc<State>, strategies: &Strategies) -> Merged {
    let row = View::new(&held.chunk);
    let values = Values::new(&mut record, Some(&row), None);
    let shown = show::show(&record, strategies, &values);
    let state = assemble::assemble(&record, &shown, Some(&row), None, &values);
    keep::keep_values(&mut record, &shown, strategies, &values);
    let same = state.as_ref() == Some(&**held);
    if !same {
        record.version = record.version.next(record.newest_change());
    }
    let (state, effect) =
        if same { (Some(Arc::clone(held)), Effect::Remembered) } else { (state.map(Arc::new), Effect::Shown) };
    Merged { record, state, effect, vectors_changed: !same, conflicts: Vec::new(), decided: Vec::new() }
}

/// The parts that were set after `since`, the newest change when the row was last seen. The row does not show these
/// values, so a view of the row has no opinion on them.
#[must_use]
pub fn set_since(record: &Record, since: Time, row: &Chunk) -> Vec<PartPattern> {
    let row = View::new(row);
    let differs = |part: &Part, hash| !row.parts.iter().any(|(of, shown, _)| of == part && Some(*shown) == hash);
    let newest = record.writers.values().flat_map(|history| &history.parts);
    let parts = newest.filter(|(part, settings)| {
        **part != Part::Existence
            && settings.last().is_some_and(|setting| setting.time > since && differs(part, setting.hash))
    });
    let mut parts: Vec<PartPattern> = parts.map(|(part, _)| PartPattern::One(part.clone())).collect();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;
    use uuid::Uuid;

    use super::super::merge;
    use super::*;
    use crate::{Body, Event, Limits};

    fn event(writer: &str, second: u32, content: &str, summary: Option<&str>) -> Event {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        let mut chunk = json!({
            "id": Uuid::max(), "system_origin": writer, "content": content, "chunk_type": "text",
            "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 },
            "organization": {}, "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": time },
        });
        if let Some(summary) = summary {
            chunk["summary"] = summary.into();
        }
        Event::from_json(&chunk.to_string(), &Limits::default()).unwrap()
    }

    fn merged(record: Option<Record>, state: Option<Arc<State>>, event: &Event) -> Merged {
        merge(record, state, &Change::from(event), &Strategies::default())
    }

    #[test]
    fn what_was_merged_without_the_row_is_in_the_row_that_shows_again() {
        let first = merged(None, None, &event("claude", 1, "the first content", None));
        let (row, strategies) = (first.state.clone().unwrap(), Strategies::default());
        let later = [
            event("claude", 2, "the second content", None),
            event("cognee", 3, "the first content", Some("a summary")),
        ];
        let mut record = first.record.clone();
        for event in &later {
            let unseen = merge_unseen(record, &Change::from(event), &strategies);
            assert_eq!(unseen.effect, Effect::Remembered);
            record = unseen.record;
        }
        assert_eq!(record.version, first.record.version, "no store receives anything");
        assert!(record.lives());
        // The record survives its encoding, so the values are in it.
        let record = Record::decode(&record.encode().unwrap()).unwrap();
        let again = reassemble(record, &row, &strategies);
        let mut expected = first;
        for event in &later {
            expected = merged(Some(expected.record), expected.state, event);
        }
        assert_eq!(again.state, expected.state);
        assert_eq!(again.state.unwrap().chunk.content, "the second content");
        assert_eq!(again.effect, Effect::Shown);
    }

    #[test]
    fn a_row_that_shows_again_unchanged_after_nothing_stays_as_it_is() {
        let first = merged(None, None, &event("claude", 1, "the first content", None));
        let again = reassemble(first.record.clone(), first.state.as_ref().unwrap(), &Strategies::default());
        assert_eq!((again.effect, again.state), (Effect::Remembered, first.state));
        assert_eq!(again.record, first.record);
    }

    #[test]
    fn a_late_event_changes_nothing() {
        let late = event("claude", 1, "the first content", None);
        let first = merged(None, None, &late);
        let unseen = merge_unseen(first.record.clone(), &Change::from(&late), &Strategies::default());
        assert_eq!((unseen.effect, unseen.record), (Effect::Nothing, first.record));
    }

    #[test]
    fn only_parts_that_the_row_cannot_show_are_unstated() {
        let first = merged(None, None, &event("claude", 1, "the first content", None));
        let since = first.record.newest_change();
        let row = first.state.clone().unwrap();
        let later = event("claude", 2, "the second content", None);
        let unseen = merge_unseen(first.record, &Change::from(&later), &Strategies::default());
        assert_eq!(set_since(&unseen.record, since, &row.chunk), [PartPattern::One(Part::Content)]);
        let Body::Chunk(chunk) = later.body else { panic!("a chunk") };
        assert_eq!(set_since(&unseen.record, since, &chunk), []);
    }
}
