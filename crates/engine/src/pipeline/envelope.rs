//! An event under way, from the moment it is read until it is completed.

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Cause, Channel, Event, Invalid, Limits, Target, Time, Writer};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use crate::ingest::row_event::{FILL, REPAIR};
use crate::pipeline::breakers::Kind;
use crate::ports::{DeadLetter, Delivery, EntryId, Fault, FaultClass, NewWaiting, WaitReason};
use crate::runtime::metrics;

/// One event under way.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Its id in the log: the event's id and the number of the delivery.
    pub(crate) id: String,
    /// The change itself.
    pub(crate) event: Event,
    /// The stream entry; `None` if the operation was replayed from the log.
    pub(crate) entry: Option<Entry>,
    /// Its number in the table of waiting events, if it was read from there.
    pub(crate) waiting: Option<u64>,
    /// It waited because a breaker held it.
    pub(crate) held: bool,
    /// It may have been carried before, wholly or in part: what the stores hold is unknown.
    pub(crate) repeated: bool,
    /// How often it was begun; for a replayed operation without the current attempt.
    pub(crate) tries: u32,
}

/// The stream entry behind an operation.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) fields: Fields,
    pub(crate) attempt: u32,
}

/// An entry that is not accepted as an event.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The letter, in case the entry is dead-lettered.
    pub(crate) letter: DeadLetter,
    pub(crate) fault: Fault,
    pub(crate) cause: Cause,
    pub(crate) kind: Kind,
    /// The chunk that it would change, if the entry states it.
    pub(crate) chunk: Option<Uuid>,
}

impl Refusal {
    fn of(entry: &Entry, invalid: &Invalid, now: Time) -> Self {
        let fault = refusal(invalid);
        let (kind, chunk) = (Kind::of_fields(&entry.fields), chunk_of(&entry.fields));
        Self { letter: entry.letter(&fault, now), fault, cause: invalid.cause, kind, chunk }
    }

    /// Why the entry waits, if it does.
    pub(crate) fn reason(&self) -> WaitReason {
        if self.cause == Cause::Clock { WaitReason::Clock } else { WaitReason::Setting }
    }

    /// The entry as an event of `chunk` that waits.
    pub(crate) fn to_waiting(&self, chunk: Uuid) -> NewWaiting {
        let letter = &self.letter;
        NewWaiting {
            name: letter.id.map(|id| id.to_string()).unwrap_or_default(),
            chunk,
            entry: letter.id,
            attempt: letter.attempts,
            fields: letter.fields.clone(),
            reason: self.reason(),
            error: self.fault.to_string(),
        }
    }
}

/// The id in the field `chunk`, also if the chunk as a whole is not accepted.
fn chunk_of(fields: &Fields) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Identity {
        id: Uuid,
    }
    let (_, chunk) = fields.iter().find(|(name, _)| name == b"chunk")?;
    Some(serde_json::from_slice::<Identity>(chunk).ok()?.id)
}

impl Operation {
    /// Parses a delivery; `Err` if it is not accepted as an event. Times are compared with the bus's clock for the entry;
    /// a dead letter is written at `now`.
    pub(crate) fn of(delivery: Delivery, limits: &Limits, now: Time) -> Result<Self, Box<Refusal>> {
        let (again, clock) = (delivery.again, delivery.clock());
        let entry = Entry { id: delivery.id, fields: delivery.fields, attempt: delivery.attempt };
        let event = Event::from_fields(&entry.fields, limits).and_then(|mut event| {
            event.check_writer(Channel::Bus)?;
            if event.bound_commit_time(clock, limits) {
                metrics::commit_time_replaced();
            }
            event.check_clock(clock, limits)?;
            Ok(event)
        });
        match event {
            Ok(event) => {
                let id = format!("{}-{}", event.event_id, entry.attempt);
                let (tries, entry) = (entry.attempt, Some(entry));
                Ok(Self { id, event, repeated: again, tries, entry, waiting: None, held: false })
            }
            Err(invalid) => Err(Box::new(Refusal::of(&entry, &invalid, now))),
        }
    }

    /// Whether the event only signals that a row was written: the merge reads the row itself.
    pub(crate) fn is_signal(&self) -> bool {
        self.event.writer == Writer::Postgres
    }

    /// Whether the row must be sent to every store even if it has not changed; the event's time, within the clock bound,
    /// is the version that the new one has to reach.
    pub(crate) fn is_repair(&self) -> bool {
        self.is_signal() && self.event.set.contains(&REPAIR)
    }

    /// Whether the row must be written to every store under its current version: one of the stores is being filled.
    pub(crate) fn is_fill(&self) -> bool {
        self.is_signal() && self.event.unchanged.contains(&FILL)
    }

    /// Removes targets that the installation does not have, and counts them. An event without any target left waits for
    /// the system of record.
    pub(crate) fn within(mut self, installed: &[Target]) -> Self {
        self.event.targets.retain(|target| {
            let has = installed.contains(target);
            if !has {
                metrics::absent_target(*target);
            }
            has
        });
        if self.event.targets.is_empty() {
            self.event.targets.push(Target::Postgres);
        }
        self
    }

    /// The `source` label of its metrics.
    pub(crate) fn source(&self) -> &'static str {
        metrics::source(&self.event)
    }

    /// The dead letter for `fault`: made from the entry, or from the event if the operation was replayed from the log.
    pub(crate) fn letter(&self, fault: &Fault, missing: &[Target], at: Time) -> DeadLetter {
        let bytes = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
        let mut letter = match &self.entry {
            Some(entry) => entry.letter(fault, at),
            None => DeadLetter {
                id: None,
                fields: self.event.to_fields().into_iter().map(bytes).collect(),
                ..letter(fault, at)
            },
        };
        letter.attempts = letter.attempts.max(self.tries);
        letter.missing = missing.to_vec();
        letter
    }

    /// An operation that is pending in the log and that earlier starts have begun again `replays` times.
    pub(crate) fn replayed(id: String, event: Event, replays: u32) -> Self {
        // The id ends in the number of the delivery.
        let delivery = id.rsplit('-').next().and_then(|delivery| delivery.parse().ok()).unwrap_or(1_u32);
        let tries = delivery.saturating_add(replays);
        Self { id, event, entry: None, repeated: true, tries, waiting: None, held: false }
    }

    /// Whether the log has it and the bus does not.
    pub(crate) fn is_from_log(&self) -> bool {
        self.entry.is_none() && self.waiting.is_none()
    }

    /// Its entry, if the bus has it.
    pub(crate) fn on_bus(&self) -> Option<EntryId> {
        self.entry.as_ref().filter(|_| self.waiting.is_none()).map(|entry| entry.id)
    }

    /// The operation as an event that waits. One entry has one name, however often it is handed out.
    pub(crate) fn to_waiting(&self, reason: WaitReason, error: &str) -> NewWaiting {
        let bytes = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
        let (fields, entry) = match &self.entry {
            Some(entry) => (entry.fields.clone(), Some(entry.id)),
            None => (self.event.to_fields().into_iter().map(bytes).collect(), None),
        };
        NewWaiting {
            name: entry.map_or_else(|| self.id.clone(), |id| id.to_string()),
            chunk: self.event.chunk_id(),
            entry,
            attempt: self.tries,
            fields,
            reason,
            error: error.to_owned(),
        }
    }
}

impl Entry {
    pub(crate) fn letter(&self, fault: &Fault, at: Time) -> DeadLetter {
        DeadLetter { id: Some(self.id), fields: self.fields.clone(), attempts: self.attempt, ..letter(fault, at) }
    }
}

/// The part of a letter that comes from the fault.
fn letter(fault: &Fault, at: Time) -> DeadLetter {
    DeadLetter {
        id: None,
        fields: Vec::new(),
        at,
        class: fault.class,
        error: fault.message.clone(),
        field: fault.field.clone(),
        attempts: 0,
        missing: Vec::new(),
    }
}

/// The fault of an operation that was begun as often as allowed and never ended: it may be what kills the process.
pub(crate) fn fatal(tries: u32) -> Fault {
    let message = format!("begun {tries} times without being finished; it may be what stops its workers");
    Fault::new(FaultClass::Rejected, "delivery", message)
}

/// Logs and counts an event that goes to the dead letters.
pub fn report_dead_letter(letter: &DeadLetter) {
    let entry = letter.id.map_or_else(|| "from the log".to_owned(), |id| id.to_string());
    warn!(entry, field = letter.field.as_deref().unwrap_or("-"), error = %letter.error, "writing a dead letter");
    metrics::dead(letter.class);
}

/// The dead letter of a logged operation that breaks a current limit; `None` if the operation has no fields.
pub(crate) fn unreadable(operation: &str, invalid: &Invalid, missing: &[Target], at: Time) -> Option<DeadLetter> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(operation).ok()?;
    let bytes = |(name, value): (String, Value)| match value {
        Value::String(text) => (name.into_bytes(), text.into_bytes()),
        value => (name.into_bytes(), value.to_string().into_bytes()),
    };
    let fields: Fields = object.into_iter().map(bytes).collect();
    let letter = DeadLetter { fields, missing: missing.to_vec(), ..letter(&refusal(invalid), at) };
    (!letter.fields.is_empty()).then_some(letter)
}

/// A logged operation that a setting refuses, as an event that waits; `None` if its format is wrong. `letter` has its
/// fields.
pub(crate) fn waiting(operation_id: &str, invalid: &Invalid, letter: &DeadLetter) -> Option<NewWaiting> {
    let chunk = chunk_of(&letter.fields).filter(|_| invalid.cause != Cause::Format)?;
    Some(NewWaiting {
        name: operation_id.to_owned(),
        chunk,
        entry: None,
        attempt: 1,
        fields: letter.fields.clone(),
        reason: WaitReason::Setting,
        error: invalid.to_string(),
    })
}

fn refusal(invalid: &Invalid) -> Fault {
    Fault::new(FaultClass::Rejected, "event", &invalid.message).at(&invalid.field)
}
