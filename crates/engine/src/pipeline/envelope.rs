//! An event on its way: from the moment it is read until it is settled.

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Invalid, Limits, Target, Time, Writer};
use serde_json::Value;
use tracing::warn;

use crate::ingest::row_event::{FILL, REPAIR};
use crate::ports::{DeadLetter, Delivery, EntryId, Fault, FaultClass};
use crate::runtime::metrics;

/// One event being carried.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Its name in the log: the event's id and which delivery of it this is.
    pub(crate) id: String,
    /// What is to happen.
    pub(crate) event: Event,
    /// Where it came from; `None` where it was replayed from the log.
    pub(crate) entry: Option<Entry>,
    /// It may have been carried before, wholly or in part: nothing is known of what the stores hold.
    pub(crate) repeated: bool,
    /// How often it was begun, this time not counted where it comes from the log.
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
    /// Reads a delivery, or says why it can never be read.
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

    /// Whether it only says that a row was written: what it is now is read where it stands.
    pub(crate) fn is_signal(&self) -> bool {
        self.event.writer == Writer::Postgres
    }

    /// Whether every store is to be told what the row says, though nothing of it changed; its time is the version that the
    /// new one has to reach.
    pub(crate) fn is_repair(&self) -> bool {
        self.is_signal() && self.event.set.contains(&REPAIR)
    }

    /// Whether the row is to be written to every store under the version that it has: one of them is being filled.
    pub(crate) fn is_fill(&self) -> bool {
        self.is_signal() && self.event.unchanged.contains(&FILL)
    }

    /// The same without targets that the installation does not have, which are counted. An event without
    /// any target left waits for the system of record.
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

    /// Whom metrics count it for.
    pub(crate) fn source(&self) -> &'static str {
        metrics::source(&self.event)
    }

    /// Why it is set aside: the letter of its entry, or where only the log had it, one made of its event.
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

    /// An operation that the log still has as pending, begun again so often by starts before this one.
    pub(crate) fn replayed(id: String, event: Event, replays: u32) -> Self {
        // The name ends in the number of the delivery.
        let delivery = id.rsplit('-').next().and_then(|delivery| delivery.parse().ok()).unwrap_or(1_u32);
        Self { id, event, entry: None, repeated: true, tries: delivery.saturating_add(replays) }
    }
}

impl Entry {
    pub(crate) fn letter(&self, fault: &Fault, at: Time) -> DeadLetter {
        DeadLetter { id: Some(self.id), fields: self.fields.clone(), attempts: self.attempt, ..letter(fault, at) }
    }
}

/// What a letter says of the fault.
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

/// An operation that was begun as often as may be and never ended: it may be what ends its workers.
pub(crate) fn fatal(tries: u32) -> Fault {
    let message = format!("begun {tries} times without being finished: it may be what stops its workers");
    Fault::new(FaultClass::Rejected, "delivery", message)
}

/// Says and counts what goes to the dead letters.
pub(crate) fn say_set_aside(letter: &DeadLetter) {
    let entry = letter.id.map_or_else(|| "of the log".to_owned(), |id| id.to_string());
    warn!(entry, field = letter.field.as_deref().unwrap_or("-"), error = %letter.error, "set aside");
    metrics::dead(letter.class);
}

/// The letter of an operation in the log that is no event by today's limits; `None` where there is nothing in it.
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
