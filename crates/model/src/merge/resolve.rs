//! Builds the event by which an operator resolves one part.

use serde_json::Value;
use uuid::Uuid;

use crate::event::{Body, Event, EventType, Target};
use crate::parse::is_marker;
use crate::{Part, PartPattern, Record, State, Time, Writer};

/// Why an operator cannot set a part to a value.
#[derive(Debug, thiserror::Error)]
pub enum Unresolvable {
    /// The service computes the part, or create and delete events set it.
    #[error("{0} cannot be set: it is computed, or set by create and delete events; publish such an event")]
    Computed(Part),
    /// Every chunk has this part.
    #[error("{0} cannot be removed: every chunk has one; give a value")]
    Required(Part),
    /// The value does not deserialise as a value of the part.
    #[error("the value is not valid for {part}")]
    Value {
        /// The part.
        part: Part,
        /// The fault in the value.
        source: serde_json::Error,
    },
    /// The value belongs to another part: its entity id, model or relationship differs.
    #[error("the value belongs to another part than {0}; its id, model or ends must match the name of the part")]
    Another(Part),
}

/// Builds the event by which an operator sets `part` to `value`, or removes it (`None`). The event carries the current
/// state with that part replaced and names the part in `set`; merge takes only this part from it. Its time is the later
/// of `now` and one microsecond after the newest recorded change, so it supersedes all of them; later changes by
/// writers apply normally.
///
/// # Errors
/// - [`Unresolvable::Computed`] if `part` is [`Part::Existence`] or a computed key of `metadata`.
/// - [`Unresolvable::Required`] if `value` is `None` and every chunk has the part.
/// - [`Unresolvable::Value`] if `value` does not deserialise as a value of the part.
/// - [`Unresolvable::Another`] if `value` belongs to another part, such as another entity or model.
pub fn resolution(
    record: &Record,
    held: &State,
    part: &Part,
    value: Option<&Value>,
    now: Time,
    event_id: Uuid,
) -> Result<Event, Unresolvable> {
    if *part == Part::Existence || is_marker(part) {
        return Err(Unresolvable::Computed(part.clone()));
    }
    let mut chunk = held.chunk.clone().into_view();
    chunk.remove(part);
    if part.is_required() && value.is_none() {
        return Err(Unresolvable::Required(part.clone()));
    }
    if let Some(value) = value {
        let invalid = |source| Unresolvable::Value { part: part.clone(), source };
        chunk.put_json(part, &value.to_string()).map_err(invalid)?;
        chunk = chunk.into_view();
        if !chunk.parts().iter().any(|(there, _)| there == part) {
            return Err(Unresolvable::Another(part.clone()));
        }
    }
    // If an entity was removed, its relationships go too. Merge takes only the part from this view.
    chunk.graph.drop_dangling();
    let time = now.max(Time::from_micros(record.newest_change().micros().saturating_add(1)));
    chunk.metadata.updated_at = time.max(chunk.metadata.updated_at);
    Ok(Event {
        event_id,
        kind: EventType::Update,
        source: chunk.system_origin,
        writer: Writer::Operator,
        targets: Target::ALL.to_vec(),
        body: Body::Chunk(Box::new(chunk)),
        timestamp: time,
        retry_count: 0,
        unchanged: Vec::new(),
        set: vec![PartPattern::One(part.clone())],
        position: None,
    })
}
