//! A person's decision on a recorded conflict: the event that says it. It goes on the bus and takes the way of every change;
//! the merge that carries it closes what it decides.

use std::sync::{Mutex, PoisonError};

use chunk_sync_model::merge::{Outcome, Side, Unresolvable, resolution};
use chunk_sync_model::{Body, Chunk, Event, Hash, Invalid, Part};
use serde_json::Value;
use uuid::Uuid;

use crate::ingest::publisher::Publisher;
use crate::ports::{Fault, Held, Met, Recorded, Records};
use crate::runtime::clock;

/// What a part is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// What the source of the conflict said.
    Source,
    /// What was held when they met.
    Target,
    /// What both began with.
    Base,
    /// Something else.
    Value(Value),
}

/// A decision, ready to be published.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What is published.
    pub event: Event,
    /// Whether the part is something else now.
    pub changes: bool,
}

/// Why a conflict cannot be decided so.
#[derive(Debug, thiserror::Error)]
pub enum Undecidable {
    /// There is nothing left to decide on.
    #[error("chunk {0} has been deleted since: publish it anew to have it back")]
    Deleted(Uuid),
    /// The record knows that there was a value, and not which.
    #[error("the value of the {0} was not kept: give it in a file")]
    NotKept(&'static str),
    /// No chunk can have that value there.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// The chunk would keep no rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The system of record does not answer.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Choice {
    /// The side that does not show: what lost, or what was held before the source's value.
    #[must_use]
    pub fn reverting(met: &Met) -> Self {
        let conflict = &met.conflict;
        let target_shows = conflict.result.hash == conflict.target.hash && conflict.outcome != Outcome::Open;
        if target_shows { Self::Source } else { Self::Target }
    }

    /// Its name among the sides; `None` where it is none of them.
    #[must_use]
    pub fn side<'a>(&self, met: &'a Met) -> Option<(&'static str, &'a Side)> {
        match self {
            Self::Source => Some(("source", &met.conflict.source)),
            Self::Target => Some(("target", &met.conflict.target)),
            Self::Base => Some(("base", &met.conflict.base)),
            Self::Value(_) => None,
        }
    }

    /// The value; `None` where the part is to be absent.
    fn value<'a>(&'a self, met: &'a Met) -> Result<Option<&'a Value>, Undecidable> {
        match (self, self.side(met)) {
            (Self::Value(value), _) => Ok(Some(value)),
            (_, Some((_, Side { hash: None, .. }))) => Ok(None),
            (_, Some((_, Side { value: Some(value), .. }))) => Ok(Some(value)),
            (_, side) => Err(Undecidable::NotKept(side.map_or("part", |(name, _)| name))),
        }
    }
}

/// The event by which the conflict's part becomes what was chosen, in the chunk as it is held now.
///
/// # Errors
/// Where the chunk is gone, the value was not kept, or no chunk can have it.
pub async fn decide(
    records: &dyn Records,
    publisher: &Publisher,
    entry: &Recorded,
    choice: &Choice,
) -> Result<Decision, Undecidable> {
    let (part, value) = (&entry.met.conflict.part, choice.value(&entry.met)?);
    let held = held(records, entry.chunk).await?;
    let (Some(record), Some(state)) = (held.record, held.state) else {
        return Err(Undecidable::Deleted(entry.chunk));
    };
    let now = clock::now();
    let event = resolution(&record, &state, part, value, now, Uuid::new_v4())?;
    // As whoever takes it from the bus will read it.
    let event = publisher.parse(&event.to_json(), now)?;
    let changes = match &event.body {
        Body::Chunk(chunk) => hash(chunk, part) != hash(&state.chunk, part),
        Body::Id(_) => true,
    };
    Ok(Decision { event, changes })
}

fn hash(chunk: &Chunk, part: &Part) -> Option<Hash> {
    chunk.parts().iter().find(|(name, _)| name == part).map(|(_, value)| value.hash())
}

/// What is held of a chunk. Read as a merge reads it; nothing is written.
async fn held(records: &dyn Records, id: Uuid) -> Result<Held, Fault> {
    let found = Mutex::new(Held::default());
    let decide = |mut held: Vec<Held>| {
        *found.lock().unwrap_or_else(PoisonError::into_inner) = held.pop().unwrap_or_default();
        Vec::new()
    };
    records.merge(&[id], &decide).await?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}
