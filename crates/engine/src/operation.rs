//! An event on its way: from the moment it is read until it is settled.

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Invalid, Limits, Time, Writer};
use tracing::warn;

use crate::metrics;
use crate::ports::{DeadLetter, Delivery, EntryId, Fault, FaultClass};
use crate::signal::REPAIR;

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
    pub(crate) fn of(
        delivery: Delivery,
        limits: &Limits,
        max_attempts: u32,
        now: Time,
    ) -> Result<Self, Box<DeadLetter>> {
        let entry = Entry { id: delivery.id, fields: delivery.fields, attempt: delivery.attempt };
        if entry.attempt > max_attempts {
            let fault = Fault::new(
                FaultClass::Rejected,
                "delivery",
                format!("handed out {} times without being finished: it may be what stops its workers", entry.attempt),
            );
            return Err(Box::new(entry.letter(&fault, now)));
        }
        let event = Event::from_fields(&entry.fields, limits).and_then(|event| {
            event.check_clock(now, limits)?;
            Ok(event)
        });
        match event {
            Ok(event) => {
                let id = format!("{}-{}", event.event_id, entry.attempt);
                Ok(Self { id, event, repeated: entry.attempt > 1, entry: Some(entry) })
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

    /// Whom metrics count it for.
    pub(crate) fn source(&self) -> &'static str {
        metrics::source(&self.event)
    }

    /// An operation that the log still has as pending.
    pub(crate) fn replayed(id: String, event: Event) -> Self {
        Self { id, event, entry: None, repeated: true }
    }
}

impl Entry {
    pub(crate) fn letter(&self, fault: &Fault, at: Time) -> DeadLetter {
        DeadLetter {
            id: Some(self.id),
            fields: self.fields.clone(),
            at,
            class: fault.class,
            error: fault.message.clone(),
            field: fault.field.clone(),
            attempts: self.attempt,
            missing: Vec::new(),
        }
    }
}

/// Says and counts what goes to the dead letters.
pub(crate) fn say_set_aside(letter: &DeadLetter) {
    let entry = letter.id.map_or_else(|| "of the log".to_owned(), |id| id.to_string());
    warn!(entry, field = letter.field.as_deref().unwrap_or("-"), error = %letter.error, "set aside");
    metrics::dead(letter.class);
}

fn refusal(invalid: &Invalid) -> Fault {
    Fault::new(FaultClass::Rejected, "event", &invalid.message).at(&invalid.field)
}
