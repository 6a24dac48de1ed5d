//! Merge: a writer's change, what that writer said before, and what is held → the new state, its record, the conflicts.
//!
//! Three steps, each pure: [`change`] turns the writer's view into settings by comparing it with the writer's own base;
//! [`show`] decides which setting of each part shows; [`assemble`] builds the chunk that shows them. The first depends on
//! the writer's own sequence alone and the second on the set of settings alone, so the end is the same for every
//! interleaving.

mod assemble;
mod change;
mod conflict;
mod show;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::chunk::{Chunk, State};
use crate::event::{Body, Event, EventType};
use crate::{Hash, Part, PartPattern, Record, Time, Writer};

pub use conflict::{Conflict, Kind, Outcome, Side, auto_type};
pub use show::Shown;
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
pub fn merge(record: Option<Record>, held: Option<Arc<State>>, change: &Change<'_>) -> Merged {
    let mut record = record.unwrap_or_default();
    let before = show::show(&record);
    let Some(changed) = change::apply(&mut record, &before, change) else {
        return Merged { record, state: held, effect: Effect::Nothing, vectors_changed: false, conflicts: Vec::new() };
    };
    let after = show::show(&record);
    let vectors_changed = !before.vectors().eq(after.vectors());
    let conflicts = conflicts(&changed, &before, &after, change.writer);
    let state = assemble::assemble(&mut record, &after, held.as_deref(), change.view);
    if state.as_ref() == held.as_deref() {
        return Merged { record, state: held, effect: Effect::Remembered, vectors_changed, conflicts };
    }
    record.version = record.version.next(record.newest_change());
    Merged { record, state: state.map(Arc::new), effect: Effect::Shown, vectors_changed, conflicts }
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

/// The parts a change set: what its writer said of them before, and what it says now.
type Changed = BTreeMap<Part, (Option<Hash>, Option<Hash>)>;

fn conflicts(changed: &Changed, before: &Shown, after: &Shown, source: Writer) -> Vec<Conflict> {
    let met = |(part, (base, new)): (&Part, &(Option<Hash>, Option<Hash>))| {
        let target = before.parts.get(part);
        let target_hash = target.map(|shown| shown.hash);
        let side = |writer, hash| Side { writer, time: None, hash, value: None };
        let result = after.parts.get(part);
        let result_hash = result.map(|shown| shown.hash);
        let outcome = if result_hash == *new { Outcome::SourceKept } else { Outcome::TargetKept };
        (target_hash != *base && target_hash != *new).then(|| Conflict {
            part: part.clone(),
            kind: Kind::of(part),
            strategy: Strategies::default().of(part),
            outcome,
            base: side(Some(source), *base),
            source: side(Some(source), *new),
            target: side(target.map(|shown| shown.version.writer), target_hash),
            result: side(result.map(|shown| shown.version.writer), result_hash),
        })
    };
    changed.iter().filter_map(met).collect()
}
