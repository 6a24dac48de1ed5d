//! Merge: a writer's change, what that writer said before, and what is held → the new state, its record, the conflicts.
//!
//! Steps, each pure: `change` turns the writer's view into settings by comparing it with the writer's own base; `show`
//! says which value of each part shows, by what `effective` and `decide` make of its settings; `assemble` builds the chunk
//! that shows them; `keep` sees to the values that are asked for later. The first depends on the writer's own sequence
//! alone and the second on the set of settings alone, so the end is the same for every interleaving. The conflicts that
//! were `met` on the way are not: they are told as they happen.

mod assemble;
mod change;
mod conflict;
mod decide;
mod direct;
mod effective;
mod keep;
mod met;
mod resolve;
mod show;
mod strategy;
mod text;
mod values;

use std::sync::Arc;

use uuid::Uuid;

use crate::chunk::{Chunk, State};
use crate::event::{Body, Event, EventType};
use crate::{Part, PartPattern, Record, Time, Writer};

use values::{Values, View};

pub use conflict::{Conflict, Kind, Outcome, Side, auto_type};
pub use direct::{Direct, Found};
pub use resolve::{Unresolvable, resolution};
pub use strategy::{Strategies, Strategy, StrategyError};

/// One change, as merge sees it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Who made it.
    pub writer: Writer,
    /// When.
    pub time: Time,
    /// Which event it came with.
    pub event: Uuid,
    /// A create revives what others deleted.
    pub kind: EventType,
    /// The writer's whole view; `None` for a delete.
    pub view: Option<&'a Chunk>,
    /// Parts that the view does not carry because they did not change.
    pub unchanged: &'a [PartPattern],
    /// Parts set on purpose.
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

/// What came of a change.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The chunk's memory from now on.
    pub record: Record,
    /// What every store is to hold from now on; `None` where the chunk is gone.
    pub state: Option<Arc<State>>,
    /// Whether anything came of it.
    pub effect: Effect,
    /// Whether other vectors show than before.
    pub vectors_changed: bool,
    /// The parts that the change met another writer on.
    pub conflicts: Vec<Conflict>,
    /// The parts that waited for a person and wait no more, and those that a person decided on.
    pub decided: Vec<Part>,
}

/// How far a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It came late or once more: nothing changed.
    Nothing,
    /// The record remembers it, but what shows is the same.
    Remembered,
    /// What shows is another state, with a version of its own.
    Shown,
}

/// Merges one change into what is held of its chunk. `record` and `held` are what the system of record has, `None` for a
/// chunk never seen; `held` is also `None` under a tombstone.
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
    let conflicts = met::conflicts(&record, &changed, &before, &after, strategies, &values);
    let decided = met::decided(&changed, &before, &after);
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
    /// What came of a row that somebody else wrote: it shows already, and yet is a state of its own that no store has seen.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        if self.effect == Effect::Remembered {
            self.record.version = self.record.version.next(self.record.newest_change());
            self.effect = Effect::Shown;
        }
        self
    }
}
