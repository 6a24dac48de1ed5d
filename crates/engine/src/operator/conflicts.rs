//! The decision of an operator on a recorded conflict, as an event. The event takes the path of every change; the merge
//! that carries it closes the conflict. Also the bound of the record in bytes.

use chunk_sync_model::merge::{Outcome, Side, Unresolvable, resolution};
use chunk_sync_model::{Body, Chunk, Event, Hash, Invalid, Part, Time};
use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use crate::ingest::publisher::Publisher;
use crate::ports::{ConflictLog, ConflictRecord, Fault, NewConflict, SystemOfRecord};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;

/// How often the record is measured and cut in one go; the next go continues.
const GOES: usize = 20;

/// The value that a part gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The value of the incoming event.
    Source,
    /// The value that was held when the event was merged.
    Target,
    /// The value that both sides changed.
    Base,
    /// Another value.
    Value(Value),
}

/// A decision, ready to be published.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The event to publish.
    pub event: Event,
    /// Whether the value differs from the current one.
    pub changes: bool,
}

/// Why a decision on a conflict is refused.
#[derive(Debug, thiserror::Error)]
pub enum Undecidable {
    /// The chunk was deleted.
    #[error("chunk {0} was deleted since; publish it again to restore it")]
    Deleted(Uuid),
    /// The record has only the hash of the value.
    #[error("the value of the {0} was not recorded; pass it in a file")]
    NotKept(&'static str),
    /// The part cannot have that value.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// The resulting chunk would break a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The system of record does not answer.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Choice {
    /// The side that is not the result: the one that lost, or the one held before the source's value.
    #[must_use]
    pub fn reverting(noted: &NewConflict) -> Self {
        let conflict = &noted.conflict;
        let target_shows = conflict.result.hash == conflict.target.hash && conflict.outcome != Outcome::Open;
        if target_shows { Self::Source } else { Self::Target }
    }

    /// The chosen side and its name; `None` for another value.
    #[must_use]
    pub fn side<'a>(&self, noted: &'a NewConflict) -> Option<(&'static str, &'a Side)> {
        match self {
            Self::Source => Some(("source", &noted.conflict.source)),
            Self::Target => Some(("target", &noted.conflict.target)),
            Self::Base => Some(("base", &noted.conflict.base)),
            Self::Value(_) => None,
        }
    }

    /// The value; `None` if the part becomes absent.
    fn value<'a>(&'a self, noted: &'a NewConflict) -> Result<Option<&'a Value>, Undecidable> {
        match (self, self.side(noted)) {
            (Self::Value(value), _) => Ok(Some(value)),
            (_, Some((_, Side { hash: None, .. }))) => Ok(None),
            (_, Some((_, Side { value: Some(value), .. }))) => Ok(Some(value)),
            (_, side) => Err(Undecidable::NotKept(side.map_or("part", |(name, _)| name))),
        }
    }
}

/// Builds the event that sets the part of the conflict to the chosen value, in the chunk as it is held now.
///
/// # Errors
/// The chunk was deleted, the value was not recorded, the part or the chunk cannot have it, or the system of record does
/// not answer.
pub async fn decide(
    records: &dyn SystemOfRecord,
    publisher: &Publisher,
    entry: &ConflictRecord,
    choice: &Choice,
    clock: &Clock,
) -> Result<Decision, Undecidable> {
    let (part, value) = (&entry.noted.conflict.part, choice.value(&entry.noted)?);
    let held = records.current(&[entry.chunk]).await?.pop().unwrap_or_default();
    let (Some(record), Some(state)) = (held.record, held.state) else {
        return Err(Undecidable::Deleted(entry.chunk));
    };
    let now = clock.now();
    let event = resolution(&record, &state, part, value, now, Uuid::new_v4())?;
    // Parsed as a worker will parse it.
    let event = publisher.parse_resolution(&event.to_json(), now)?;
    let changes = match &event.body {
        Body::Chunk(chunk) => hash(chunk, part) != hash(&state.chunk, part),
        Body::Id(_) => true,
    };
    Ok(Decision { event, changes })
}

fn hash(chunk: &Chunk, part: &Part) -> Option<Hash> {
    chunk.parts().iter().find(|(name, _)| name == part).map(|(_, value)| value.hash())
}

/// Removes the oldest closed conflicts, `at_once` at a time, while the record has more than `most` bytes; returns their
/// number. Open ones stay.
///
/// # Errors
/// The fault of the record; some may have been removed.
pub async fn cut(records: &dyn ConflictLog, most: u64, at_once: usize) -> Result<u64, Fault> {
    let mut removed = 0;
    for _ in 0..GOES {
        if records.conflict_bytes(most).await? <= most {
            break;
        }
        let some = records.forget_conflicts(Time::from_micros(i64::MAX), at_once).await?;
        if some == 0 {
            break;
        }
        removed += some;
    }
    if removed > 0 {
        metrics::cut_conflicts(removed);
        warn!(removed, most, "the record of conflicts was too long: removed the oldest closed ones before their time");
    }
    Ok(removed)
}
