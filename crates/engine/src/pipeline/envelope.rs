//! An event under way, from the moment it is read until it is settled.

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Invalid, Limits, Target, Time, Writer};
use serde_json::Value;
use tracing::warn;

use crate::ingest::row_event::{FILL, REPAIR};
use crate::ports::{DeadLetter, Delivery, EntryId, Fault, FaultClass};
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

impl Operation {
    /// Parses a delivery; `Err` is the dead letter of one that is not a valid event.
    pub(crate) fn of(delivery: Delivery, limits: &Limits, now: Time) -> Result<Self, Box<DeadLetter>> {
        let again = delivery.again;
        let entry = Entry { id: delivery.id, fields: delivery.fields, attempt: delivery.attempt };
        let event = Event::from_fields(&entry.fields, limits).and_then(|event| {
            event.check_clock(now, limits)?;
            Ok(event)
        });
        match event {
            Ok(event) => {
                let id = format!("{}-{}", event.event_id, entry.attempt);
                Ok(Self { id, event, repeated: again, tries: entry.attempt, entry: Some(entry) })
            }
            Err(invalid) => Err(Box::new(entry.letter(&refusal(&invalid), now))),
        }
    }

    /// Whether the event only signals that a row was written: the merge reads the row itself.
    pub(crate) fn is_signal(&self) -> bool {
        self.event.writer == Writer::Postgres
    }

    /// Whether the row must be sent to every store even if it has not changed; the event's time is the version that the
    /// new one has to reach.
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
        Self { id, event, entry: None, repeated: true, tries: delivery.saturating_add(replays) }
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

fn refusal(invalid: &Invalid) -> Fault {
    Fault::new(FaultClass::Rejected, "event", &invalid.message).at(&invalid.field)
}
