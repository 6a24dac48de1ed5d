//! An event by `postgres`: read this row. Thin, it carries only the id; the merge reads the row under its lock.

use chunk_sync_model::{Body, Event, EventType, Origin, Part, PartPattern, State, SyncVersion, Target, Time, Writer};
use uuid::Uuid;

use crate::ports::Touch;

/// The part that a signal sets on purpose to have every store written again, even if the row is as it was last seen.
pub(crate) const REPAIR: PartPattern = PartPattern::One(Part::Existence);

/// The part that a signal names as unchanged to have the row written to every store under its current version: a store
/// that holds that version skips the write, and a store that is being filled takes it.
pub(crate) const FILL: PartPattern = PartPattern::One(Part::Existence);

/// A signal that fills a store with the row; `place` distinguishes the fillings of one row.
pub(crate) fn fill(id: Uuid, at: Time, place: &str, targets: &[Target]) -> Event {
    Event { unchanged: vec![FILL], ..signal(id, Touch::Updated, at, place, targets) }
}

/// A signal that has the row written to every store under a version above `above`; `touch` is
/// [`Deleted`](Touch::Deleted) if the row is gone. `place` distinguishes the repairs of one row.
pub(crate) fn repair(id: Uuid, touch: Touch, above: SyncVersion, now: Time, place: &str, targets: &[Target]) -> Event {
    // A version is at least the microseconds of the newest change, so the time of the signal sets the least version.
    let reached = Time::from_micros(above.signed().saturating_add(1)).max(now);
    Event { set: vec![REPAIR], ..signal(id, touch, reached, place, targets) }
}

/// A thin signal: the row `id` was touched at `at`. `place` distinguishes signals for one row; `targets` are the stores
/// of the installation that must hold it before it is finished.
pub(crate) fn signal(id: Uuid, touch: Touch, at: Time, place: &str, targets: &[Target]) -> Event {
    let kind = match touch {
        Touch::Inserted => EventType::Create,
        Touch::Updated => EventType::Update,
        Touch::Deleted => EventType::Delete,
    };
    Event {
        event_id: Uuid::new_v5(&id, format!("{place} {}", kind.as_str()).as_bytes()),
        kind,
        source: Origin::Hybrid,
        writer: Writer::Postgres,
        targets: targets.to_vec(),
        timestamp: at,
        retry_count: 0,
        unchanged: Vec::new(),
        set: Vec::new(),
        position: Some(place.to_owned()),
        body: Body::Id(id),
    }
}

/// The signal with the row as it is now, for other readers of the stream. A delete, and a row that is gone, stay thin.
pub(crate) fn full(signal: Event, row: Option<&State>) -> Event {
    match row {
        Some(state) if signal.kind != EventType::Delete => {
            Event { source: state.chunk.system_origin, body: Body::Chunk(Box::new(state.chunk.clone())), ..signal }
        }
        _ => signal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chunk_sync_model::Limits;

    use super::*;

    #[test]
    fn a_thin_signal_keeps_its_kind_on_the_wire() {
        let at = Time::from_micros(1_700_000_000_000_000);
        for touch in [Touch::Inserted, Touch::Updated, Touch::Deleted] {
            let sent = signal(Uuid::from_u128(7), touch, at, "0/10", &Target::ALL);
            assert_eq!(Event::from_json(&sent.to_json(), &Limits::default()).unwrap(), sent);
            let fields: Vec<_> =
                sent.to_fields().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            assert_eq!(Event::from_fields(&fields, &Limits::default()).unwrap(), sent);
        }
    }
}
