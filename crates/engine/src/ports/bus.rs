//! The bus: it holds each event until every store holds the state that the event led to.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use chunk_sync_model::Target;
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};

use serde_json::{Map, Value};

use super::{Fault, FaultClass, Handover};

/// The id of an entry of the stream: `milliseconds-sequence`, ascending in the order of publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since 1970 when the entry was added.
    pub millis: u64,
    /// Distinguishes entries of the same millisecond.
    pub sequence: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl std::str::FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(m, s)| Some((m.parse().ok()?, s.parse().ok()?)));
        let (millis, sequence) =
            parts.ok_or_else(|| format!("`{text}` is not an entry id; write one such as 1700000000000-0"))?;
        Ok(Self { millis, sequence })
    }
}

impl EntryId {
    /// The time in the id, for a bus whose ids contain one.
    #[must_use]
    pub fn time(self) -> Time {
        Time::from_micros(i64::try_from(self.millis).unwrap_or(i64::MAX).saturating_mul(1000))
    }
}

/// An entry handed to this process.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The entry.
    pub id: EntryId,
    /// One more than the number of processes that fell silent while they had the entry.
    pub attempt: u32,
    /// Whether the entry was handed out before: a process may have carried it, wholly or in part.
    pub again: bool,
    /// The fields as they were published.
    pub fields: Fields,
}

impl Delivery {
    /// The bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

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

/// The numbers of entries that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries that no process has read yet.
    pub unread: u64,
    /// Entries that were read and are not acknowledged.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// The oldest unfinished entry.
    pub oldest: Option<EntryId>,
}

/// What finishes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishedBy {
    /// [`Bus::acknowledge`]. The bus and the system of record are two systems: until the acknowledgement, an event that
    /// was merged and has not reached every store is in the write-ahead log.
    Acknowledgement,
    /// The merge. Entries are in the database of the system of record, and
    /// [`Records::merge_in`](super::Records::merge_in) deletes them in the transaction that adds the writes of every
    /// store to the outbox. Their events are not logged, and a published entry is as durable as the rows.
    Merge,
}

impl FinishedBy {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Acknowledgement, Self::Merge];

    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledgement => "acknowledgement",
            Self::Merge => "merge",
        }
    }
}

/// The stream of events with its one group of workers.
///
/// - **One reader**: one process reads at a time, the holder of the [`Lease`](super::Lease). It calls
///   [`begin`](Bus::begin) once, before its first read. Any number of processes may publish.
/// - **Order**: entries are handed out in the order of the stream, after those that were handed out before and are
///   unfinished. If another process reads an entry meanwhile (it lost the lease and has not noticed yet), the entry is
///   taken back and handed out in its place in the order.
/// - **Counting**: a handover does not count as a delivery. [`Delivery::attempt`] grows by one if a process fell silent
///   ([`Handover::Silent`]) while it had the entry, because the entry may have ended it. It does not grow if the
///   process released the lease, or if the same process reads on.
/// - **Durability**: a published entry survives a crash of this process; on a server it is as durable as that server.
/// - **Repetition**: an entry may be handed out again until it is acknowledged, also after an acknowledgement was lost.
/// - **Shutdown**: a read that is dropped loses nothing: the entries that it had been handed are handed out again.
#[async_trait]
pub trait Bus: Send + Sync {
    /// What finishes an entry of this bus. An implementation returns [`FinishedBy::Merge`] only if the records that it
    /// is used with delete the entries in [`MergeScope::finished`](super::MergeScope::finished) from this bus.
    fn finished_by(&self) -> FinishedBy {
        FinishedBy::Acknowledgement
    }

    /// Creates what is missing (stream, group). Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Adds the events to the stream in their order and returns one id each; durable on return. Waits while the stream
    /// is over its bound, and fails with [`FaultClass::Busy`] if that lasts.
    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault>;

    /// Makes this process the reader. All unfinished entries are handed out again, regardless of which process had
    /// them; `handover` decides whether that counts as a delivery.
    async fn begin(&self, handover: Handover) -> Result<(), Fault>;

    /// Returns up to `max` entries in the order of the stream, and a bounded number of bytes; waits up to `wait` for the
    /// first. An entry above the limit of bytes is dead-lettered without being fetched.
    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault>;

    /// Finishes the entries: they are not handed out again.
    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault>;

    /// Adds the letters to the dead letters and acknowledges their entries; a crash in between leaves an entry in both
    /// places, never in neither. A letter without an entry is only added.
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault>;

    /// Returns the dead letters with an id above `after`, at most `limit` and a bounded number of bytes; none means the
    /// end.
    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault>;

    /// Removes a dead letter; returns whether it existed.
    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault>;

    /// A name that changes as soon as the bus may have lost entries whose publication it had confirmed.
    async fn epoch(&self) -> Result<String, Fault>;

    /// The numbers of entries that wait.
    async fn depth(&self) -> Result<Depth, Fault>;

    /// When the oldest unfinished entry was added, by the bus's clock; `None` if every entry is finished. The default
    /// implementation takes the time from the id.
    async fn oldest_at(&self) -> Result<Option<Time>, Fault> {
        Ok(self.depth().await?.oldest.map(EntryId::time))
    }

    /// Removes entries that every group has finished, never by length; returns their number.
    async fn trim(&self) -> Result<u64, Fault>;
}
