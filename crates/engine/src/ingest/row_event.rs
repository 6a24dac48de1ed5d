//! An event whose only content is: read this row.

use chunk_sync_model::{Body, Event, EventType, Origin, Part, PartPattern, State, SyncVersion, Target, Time, Writer};
use uuid::Uuid;

use crate::ports::Touch;

/// The part that a signal sets on purpose to have every store written again, even if the row is as it was last seen.
pub(crate) const REPAIR: PartPattern = PartPattern::One(Part::Existence);

/// The part that a signal names as unchanged to have the row written to every store under its current version: a store
/// that holds that version skips the write, and a store that is being filled takes it.
pub(crate) const FILL: PartPattern = PartPattern::One(Part::Existence);

/// A signal that fills a store with the row; `place` distinguishes the fillings of one row.
pub(crate) fn fill(id: Uuid, state: &State, at: Time, place: &str, targets: &[Target]) -> Event {
    Event { unchanged: vec![FILL], ..signal(id, Touch::Updated, Some(state), at, place, targets) }
}

/// A signal that has the row written to every store under a version above `above`; `state` is `None` if the row was
/// deleted. `place` distinguishes the repairs of one row.
pub(crate) fn repair(
    id: Uuid,
    state: Option<&State>,
    above: SyncVersion,
    now: Time,
    place: &str,
    targets: &[Target],
) -> Event {
    // A version is at least the microseconds of the newest change, so the time of the signal sets the least version.
    let reached = Time::from_micros(above.signed().saturating_add(1)).max(now);
    Event { set: vec![REPAIR], ..signal(id, Touch::Updated, state, reached, place, targets) }
}

/// A signal for the current row; `state` is `None` if the row was deleted. `place` distinguishes signals for one row;
/// `targets` are the stores of the installation that must hold it before it is finished.
pub(crate) fn signal(
    id: Uuid,
    touch: Touch,
    state: Option<&State>,
    at: Time,
    place: &str,
    targets: &[Target],
) -> Event {
    let (kind, source, body) = match state {
        Some(state) => {
            let kind = if touch == Touch::Inserted { EventType::Create } else { EventType::Update };
            (kind, state.chunk.system_origin, Body::Chunk(Box::new(state.chunk.clone())))
        }
        None => (EventType::Delete, Origin::Hybrid, Body::Id(id)),
    };
    Event {
        event_id: Uuid::new_v5(&id, format!("{place} {}", kind.as_str()).as_bytes()),
        kind,
        source,
        writer: Writer::Postgres,
        targets: targets.to_vec(),
        timestamp: at,
        retry_count: 0,
        unchanged: Vec::new(),
        set: Vec::new(),
        position: Some(place.to_owned()),
        body,
    }
}
