//! An operator's word on one part: the event that says it.

use serde_json::Value;
use uuid::Uuid;

use crate::event::{Body, Event, EventType, Target};
use crate::parse::is_marker;
use crate::{Part, PartPattern, Record, State, Time, Writer};

/// What an operator cannot decide.
#[derive(Debug, thiserror::Error)]
pub enum Unresolvable {
    /// Not a matter of choice.
    #[error("{0} is computed, or a matter of create and delete: publish one of these instead")]
    Computed(Part),
    /// Every chunk has one.
    #[error("{0} cannot be removed: every chunk has one")]
    Required(Part),
    /// The value is none of that part.
    #[error("no value of {part}")]
    Value {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The value is another part's: another entity, another model.
    #[error("the value belongs to another part than {0}")]
    Another(Part),
}

/// The event by which an operator decides that `part` is to be `value`, or to be absent. It carries what is held with that
/// part replaced and names the part in `set`: merge takes just this part from it. Whatever was set before `now` or is
/// held is older; what a writer changes later is a change again.
///
/// # Errors
/// Where a chunk cannot have `value` there.
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
        let unfit = |source| Unresolvable::Value { part: part.clone(), source };
        chunk.put_json(part, &value.to_string()).map_err(unfit)?;
        chunk = chunk.into_view();
        if !chunk.parts().iter().any(|(there, _)| there == part) {
            return Err(Unresolvable::Another(part.clone()));
        }
    }
    // Those of an entity that goes; merge takes nothing but the part from this view.
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
