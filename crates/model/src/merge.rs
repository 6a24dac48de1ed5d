//! Merge: from a writer's change, the record and the current state to the new state, the new record and the conflicts.
//!
//! The steps, all pure:
//!
//! 1. `change` compares the writer's view with the writer's own base and turns the differences into settings.
//! 2. `show` selects the shown value of each part: `effective` filters the part's settings, `decide` applies the
//!    strategy.
//! 3. `detect` finds the conflicts that the change caused or ended.
//! 4. `assemble` builds the chunk from the shown values.
//! 5. `keep` stores in the record the values that later merges may need.
//!
//! Step 1 depends only on the writer's own sequence, step 2 only on the set of settings, so the final state is the same
//! for every interleaving. The detected conflicts are not: they depend on the order of arrival.

mod assemble;
mod bounds;
mod change;
mod conflict;
mod decide;
mod detect;
mod direct;
mod effective;
mod expire;
mod keep;
mod resolve;
mod show;
mod stored;
mod strategy;
mod text;
mod unseen;
mod values;

use std::sync::Arc;

use uuid::Uuid;

use crate::chunk::{Chunk, State};
use crate::event::{Body, Event, EventType};
use crate::{Part, PartPattern, Record, Time, Writer};

use values::{Values, View};

pub use bounds::refusal;
pub use conflict::{Conflict, Kind, Outcome, Side, auto_type};
pub use direct::{Direct, Found};
pub use expire::{KEPT_REMOVALS, expire, tombstone};
pub use resolve::{Unresolvable, resolution};
pub use stored::stored_as;
pub use strategy::{Strategies, Strategy, StrategyError};
pub use unseen::{Unseen, merge_unseen, reassemble, set_since};

/// One change: the input of a merge.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The writer of the change.
    pub writer: Writer,
    /// When the change was made.
    pub time: Time,
    /// The id of the event that carries the change.
    pub event: Uuid,
    /// The kind of change. A create revives a chunk that another writer deleted.
    pub kind: EventType,
    /// The writer's complete view; `None` for a delete.
    pub view: Option<&'a Chunk>,
    /// Parts that the view omits because they did not change.
    pub unchanged: &'a [PartPattern],
    /// Parts that the writer sets deliberately, even if another writer has set the same value before.
    pub set: &'a [PartPattern],
}

impl<'a> From<&'a Event> for Change<'a> {
    fn from(event: &'a Event) -> Self {
        let view = match &event.body {
            Body::Chunk(chunk) => Some(&**chunk),
            Body::Id(_) => None,
        };
        Self {
            writer: event.writer,
            time: event.time(),
            event: event.event_id,
            kind: event.kind,
            view,
            unchanged: &event.unchanged,
            set: &event.set,
        }
    }
}

/// The result of a merge.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The new record of the chunk.
    pub record: Record,
    /// The new state of the chunk; `None` if the chunk is deleted.
    pub state: Option<Arc<State>>,
    /// What the change altered.
    pub effect: Effect,
    /// Whether the shown vectors changed.
    pub vectors_changed: bool,
    /// The conflicts between this change and the changes of other writers, one per part.
    pub conflicts: Vec<Conflict>,
    /// The parts whose open conflict this change closed, and the parts that an operator resolved with it.
    pub decided: Vec<Part>,
}

/// What a change altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the change was late or a repetition.
    Nothing,
    /// The record only; the shown state is the same.
    Remembered,
    /// The shown state, which has a new version.
    Shown,
}

/// Merges one change into the current state of its chunk. `record` and `held` are the record and state in the system of
/// record. Both are `None` for an unknown chunk; `held` is also `None` for a deleted one.
///
/// The metadata that one writer adds stays when another one changes the content:
///
/// ```
/// use chunk_sync_model::merge::{Change, Effect, Strategies, merge};
/// use chunk_sync_model::{Event, Limits};
///
/// # let event = |writer: &str, second: u32, content: &str, metadata: &str| {
/// #     let json = format!(
/// #         r#"{{"event_id": "00000000-0000-0000-0000-00000000000{second}", "type": "update", "source": "{writer}",
/// #         "targets": ["qdrant"], "timestamp": "2026-01-01T00:00:0{second}Z", "chunk": {{
/// #         "id": "6f1c1d0e-5a64-4d3f-9a5e-0f1f5f3f7a10", "system_origin": "{writer}", "content": "{content}",
/// #         "chunk_type": "text", "source": {{"type": "api"}}, "organization": {{}},
/// #         "location": {{"start_char": 0, "end_char": 9, "chunk_index": 0}},
/// #         "metadata": {{{metadata} "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}}}}}}"#
/// #     );
/// #     Event::from_json(&json, &Limits::default()).unwrap()
/// # };
/// let strategies = Strategies::default();
/// let by_cognee = event("cognee", 1, "the first text", r#""topic": "merging","#);
/// let first = merge(None, None, &Change::from(&by_cognee), &strategies);
/// let by_claude = event("claude", 2, "the second text", "");
/// let second = merge(Some(first.record), first.state, &Change::from(&by_claude), &strategies);
///
/// assert_eq!(second.effect, Effect::Shown);
/// let chunk = &second.state.unwrap().chunk;
/// assert_eq!((&*chunk.content, &chunk.metadata.extra["topic"]), ("the second text", &"merging".into()));
/// ```
#[must_use]
pub fn merge(record: Option<Record>, held: Option<Arc<State>>, change: &Change<'_>, strategies: &Strategies) -> Merged {
    let mut record = record.unwrap_or_default();
    if !record.admits(change.writer, change.time, change.event) {
        return Merged {
            record,
            state: held,
            effect: Effect::Nothing,
            vectors_changed: false,
            conflicts: Vec::new(),
            decided: Vec::new(),
        };
    }
    let (held_view, view) = (held.as_deref().map(|state| View::new(&state.chunk)), change.view.map(View::new));
    let values = Values::new(&mut record, held_view.as_ref(), view.as_ref());
    let before = show::show(&record, strategies, &values);
    let changed = change::apply(&mut record, &before, change, view.as_ref());
    let after = show::show(&record, strategies, &values);
    let conflicts = detect::conflicts(&record, &changed, &before, &after, strategies, &values);
    let decided = detect::decided(&changed, &before, &after);
    let state = assemble::assemble(&record, &after, held_view.as_ref(), view.as_ref(), &values);
    keep::keep_values(&mut record, &after, strategies, &values);
    let vectors_changed = !before.vectors().eq(after.vectors());
    if state.as_ref() == held.as_deref() {
        return Merged { record, state: held, effect: Effect::Remembered, vectors_changed, conflicts, decided };
    }
    record.version = record.version.next(record.newest_change());
    Merged { record, state: state.map(Arc::new), effect: Effect::Shown, vectors_changed, conflicts, decided }
}

impl Merged {
    /// The result for a row that another program wrote. The row already shows the state, so the merge found no
    /// difference, but the other stores have not received it: the state gets a new version.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        if self.effect == Effect::Remembered {
            self.record.version = self.record.version.next(self.record.newest_change());
            self.effect = Effect::Shown;
        }
        self
    }
}
