//! Dead letters: entries that can never succeed, kept beside the stream for the operator.

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Target, Time};
use serde_json::{Map, Value};

use super::{EntryId, Fault, FaultClass};

/// An entry that can never succeed, with the reason.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The entry; `None` where the bus does not have it any more, or where its id is unknown because only the log had
    /// its event.
    pub id: Option<EntryId>,
    /// The fields of the entry, unchanged.
    pub fields: Fields,
    /// When the engine gave it up.
    pub at: Time,
    /// The class of the fault.
    pub class: FaultClass,
    /// The error message.
    pub error: String,
    /// The field that caused the error.
    pub field: Option<String>,
    /// The number of attempts.
    pub attempts: u32,
    /// The stores that do not hold the state of the event.
    pub missing: Vec<Target>,
}

impl DeadLetter {
    /// The letter of an entry of `bytes` bytes that is above the limit of bytes and was not fetched: the bus itself adds
    /// the fields of the entry. The error begins with the number of bytes.
    #[must_use]
    pub fn of_long_entry(id: EntryId, bytes: u64, limit: usize, at: Time) -> Self {
        Self {
            id: Some(id),
            fields: Vec::new(),
            at,
            class: FaultClass::Rejected,
            error: format!("{bytes} bytes; the maximum is {limit} (limits.event_max_bytes); split the chunk"),
            field: Some("event".to_owned()),
            attempts: 1,
            missing: Vec::new(),
        }
    }

    /// The fields of the dead letter: the original ones unchanged, then the reason and the time. A value that is not
    /// UTF-8 is also in `raw_b64`, a JSON object of base64 by field name, for readers that can only read text.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let missing: Vec<_> = self.missing.iter().map(|target| target.as_str()).collect();
        let reasons = [
            ("dead_at", self.at.to_string()),
            ("stream_id", self.id.map(|id| id.to_string()).unwrap_or_default()),
            ("error_type", self.class.as_str().to_owned()),
            ("error", self.error.clone()),
            ("field", self.field.clone().unwrap_or_default()),
            ("attempts", self.attempts.to_string()),
            ("missing", Value::from(missing).to_string()),
        ];
        let raw: Map<String, Value> = self
            .fields
            .iter()
            .filter(|(_, value)| std::str::from_utf8(value).is_err())
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), BASE64.encode(value).into()))
            .collect();
        let raw = (!raw.is_empty()).then(|| ("raw_b64", Value::from(raw).to_string()));
        let added = reasons.into_iter().chain(raw).map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
        // A letter that is retried and dead-lettered again keeps one set of reasons, the newest.
        let original = self.fields.iter().filter(|(name, _)| !DEAD_FIELDS.iter().any(|dead| dead.as_bytes() == name));
        original.cloned().chain(added).collect()
    }
}

/// The fields that a dead letter has in addition to the original ones.
pub const DEAD_FIELDS: [&str; 8] =
    ["dead_at", "stream_id", "error_type", "error", "field", "attempts", "missing", "raw_b64"];

/// A dead letter as it is stored in `chunk:sync:dead`: the original fields and the reasons.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The id in the stream of dead letters.
    pub id: EntryId,
    /// All fields.
    pub fields: Fields,
}

/// The dead letters of a stream.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Adds the letters to the dead letters and acknowledges their entries; a crash in between leaves an entry in both
    /// places, never in neither. A letter without an entry is only added.
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault>;

    /// Returns the dead letters with an id above `after`, at most `limit` and a bounded number of bytes; none means the
    /// end.
    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault>;

    /// About the bytes that the dead letters have where they are stored; `None` if the server does not state it.
    async fn dead_bytes(&self) -> Result<Option<u64>, Fault>;

    /// Removes a dead letter; returns whether it existed.
    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault>;
}
