//! Dead letters for people: what the command line and the HTTP API show of a letter, and how both find one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use chunk_sync_engine::Publisher;
use chunk_sync_engine::dead::{Reasons, superseded};
use chunk_sync_engine::ports::{EntryId, Fault, Letter, Ports};
use chunk_sync_model::{Event, Invalid, Target, Time};
use serde::Serialize;
use uuid::Uuid;

/// A decoded dead letter.
pub(crate) struct Dead {
    pub(crate) letter: Letter,
    pub(crate) reasons: Reasons,
    /// The event that would be published again, or why it is invalid.
    pub(crate) event: Result<Event, Invalid>,
    pub(crate) superseded: bool,
}

/// A dead letter as JSON, without its fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) dead_at: Option<Time>,
    pub(crate) stream_id: String,
    pub(crate) chunk: Option<Uuid>,
    pub(crate) source: Option<String>,
    pub(crate) error_type: String,
    pub(crate) field: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) missing: Vec<Target>,
    pub(crate) error: String,
    pub(crate) superseded: bool,
}

/// A dead letter as JSON.
#[derive(Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    line: Line,
    /// Why it cannot be published again.
    unreadable: Option<Unreadable>,
    /// The original fields, in their order; a name can occur twice.
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Unreadable {
    field: String,
    error: String,
}

/// An original field: as text if it is UTF-8, else as base64.
#[derive(Serialize)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

/// Decodes dead letters: their reasons and events, and whether they are superseded.
///
/// # Errors
/// The fault of the system of record, which holds the records to compare with.
pub(crate) async fn read(ports: &Ports, publisher: &Publisher, letters: Vec<Letter>) -> Result<Vec<Dead>, Fault> {
    let now = jiff::Timestamp::now().into();
    let mut read: Vec<Dead> = letters
        .into_iter()
        .map(|letter| {
            let event = publisher.read(&letter.original(), now);
            Dead { reasons: letter.reasons(), event, superseded: false, letter }
        })
        .collect();
    let (places, events): (Vec<usize>, Vec<_>) = read
        .iter()
        .enumerate()
        .filter_map(|(i, dead)| Some((i, (dead.event.as_ref().ok()?.clone(), dead.reasons.missing.clone()))))
        .unzip();
    for (i, superseded) in places.into_iter().zip(superseded(&*ports.records, &events).await?) {
        read[i].superseded = superseded;
    }
    Ok(read)
}

/// The dead letter with this id.
///
/// # Errors
/// The fault of the bus.
pub(crate) async fn find(ports: &Ports, id: EntryId) -> Result<Option<Letter>, Fault> {
    let before = match (id.millis, id.sequence) {
        (0, 0) => None,
        // No bus uses sequence numbers this high within a millisecond.
        (millis, 0) => Some(EntryId { millis: millis - 1, sequence: (1 << 20) - 1 }),
        (millis, sequence) => Some(EntryId { millis, sequence: sequence - 1 }),
    };
    Ok(ports.bus.dead(before, 1).await?.pop().filter(|letter| letter.id == id))
}

impl Line {
    pub(crate) fn of(dead: &Dead) -> Self {
        let (letter, reasons) = (&dead.letter, dead.reasons.clone());
        Self {
            id: letter.id.to_string(),
            dead_at: reasons.at,
            stream_id: reasons.stream_id,
            chunk: letter.chunk(),
            source: letter.text("source").map(Into::into),
            error_type: reasons.class,
            field: reasons.field,
            attempts: reasons.attempts,
            missing: reasons.missing,
            error: reasons.error,
            superseded: dead.superseded,
        }
    }
}

impl Whole {
    pub(crate) fn of(dead: &Dead) -> Self {
        let unreadable = dead.event.as_ref().err();
        Self {
            line: Line::of(dead),
            unreadable: unreadable.map(|e| Unreadable { field: e.field.clone(), error: e.message.clone() }),
            fields: dead.letter.original().iter().map(|(name, value)| Field::of(name, value)).collect(),
        }
    }
}

impl Field {
    pub(crate) fn of(name: &[u8], value: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).into_owned();
        match std::str::from_utf8(value) {
            Ok(text) => Self { name, value: Some(text.to_owned()), base64: None },
            Err(_) => Self { name, value: None, base64: Some(BASE64.encode(value)) },
        }
    }
}
