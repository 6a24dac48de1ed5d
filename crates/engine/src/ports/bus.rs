//! The bus: where events wait until every store holds them.

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

/// An entry's place in the stream: `milliseconds-sequence`, ascending in the order of publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since 1970 when it was added.
    pub millis: u64,
    /// Tells entries of the same millisecond apart.
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
        let (millis, sequence) = parts.ok_or_else(|| format!("`{text}` is no entry id such as 1700000000000-0"))?;
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
    /// Which entry.
    pub id: EntryId,
    /// One more than the number of processes that fell silent while they had it.
    pub attempt: u32,
    /// It was handed out before: a process may have carried it, wholly or in part.
    pub again: bool,
    /// Its fields, as they came.
    pub fields: Fields,
}

/// An entry that cannot succeed, with the reason.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Which entry; `None` where the bus does not have it any more, or nobody knows where: only the log had its event.
    pub id: Option<EntryId>,
    /// Its fields, unchanged.
    pub fields: Fields,
    /// When it was given up.
    pub at: Time,
    /// The class of the fault.
    pub class: FaultClass,
    /// What went wrong.
    pub error: String,
    /// The field to blame.
    pub field: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// The stores that do not hold it.
    pub missing: Vec<Target>,
}

impl DeadLetter {
    /// The fields of its entry among the dead letters: the original ones unchanged, then why and when. A value that is not
    /// UTF-8 also stands in `raw_b64`, a JSON object of base64 by field name, for readers that know text only.
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
        // A letter that is retried and dies again keeps one set of reasons, the newest.
        let original = self.fields.iter().filter(|(name, _)| !DEAD_FIELDS.iter().any(|dead| dead.as_bytes() == name));
        original.cloned().chain(added).collect()
    }
}

/// The fields that a dead letter has beside the original ones.
pub const DEAD_FIELDS: [&str; 8] =
    ["dead_at", "stream_id", "error_type", "error", "field", "attempts", "missing", "raw_b64"];

/// A dead letter as it lies in its stream: the fields of `chunk:sync:dead`, originals and reasons alike.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its place in the stream of dead letters.
    pub id: EntryId,
    /// All its fields.
    pub fields: Fields,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries that nobody has read yet.
    pub unread: u64,
    /// Entries read, not yet acknowledged.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// The oldest entry that is not finished.
    pub oldest: Option<EntryId>,
}

/// What finishes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishedBy {
    /// [`Bus::acknowledge`]. The bus and the system of record are two systems: what was merged and has not reached every
    /// store is in the write-ahead log until the acknowledgement.
    Acknowledgement,
    /// The merge. Entries lie in the database of the system of record, and
    /// [`Records::merge_in`](super::Records::merge_in) deletes them in the transaction that puts the writes of every store
    /// into the outbox. Nothing of them is logged, and a published entry is as durable as the rows.
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
/// - **Order**: entries are handed out in the order of the stream, those that were handed out before and are unfinished
///   first. An entry that another process takes meanwhile (it lost the lease and does not know yet) is taken back and
///   comes in its place.
/// - **Counting**: a handover does not count as a delivery. [`Delivery::attempt`] grows by one where a process fell silent
///   ([`Handover::Silent`]) while it had the entry, for it may have died of it; not where it released the lease, and not
///   where the same process reads on.
/// - **Durability**: a published entry survives a crash of this process; with a server it is as durable as that server.
/// - **Repetition**: an entry may be handed out again until it is acknowledged, also after an acknowledgement was lost.
/// - **Shutdown**: a read that is dropped loses nothing: what it had been handed comes again.
#[async_trait]
pub trait Bus: Send + Sync {
    /// What finishes an entry of this bus. [`FinishedBy::Merge`] only where the records that it is used with delete the
    /// entries named by [`MergeScope::finished`](super::MergeScope::finished) from this very bus.
    fn finished_by(&self) -> FinishedBy {
        FinishedBy::Acknowledgement
    }

    /// Creates what is missing (stream, group). Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Adds the events to the stream in their order; durable on return, one id each. Waits while the stream is over its
    /// bound, and answers [`FaultClass::Busy`] if that lasts.
    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault>;

    /// This process reads from now on. Whatever is unfinished is handed out again, whoever had it; `handover` says whether
    /// that counts.
    async fn begin(&self, handover: Handover) -> Result<(), Fault>;

    /// Up to `max` entries, in the order of the stream; waits up to `wait` for the first.
    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault>;

    /// The entries are finished: they are handed out no more.
    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault>;

    /// Moves entries to the dead letters and acknowledges them; a crash in between leaves them in both places, never in
    /// neither. A letter without an entry is only added.
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), Fault>;

    /// The dead letters above `after`, at most `limit`.
    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault>;

    /// Removes a dead letter; whether it was there.
    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault>;

    /// A name that is another one as soon as the bus may have lost entries that it had answered for.
    async fn incarnation(&self) -> Result<String, Fault>;

    /// How much waits.
    async fn depth(&self) -> Result<Depth, Fault>;

    /// When the oldest unfinished entry was added, by the bus's clock; `None` where there is none. Of a bus whose ids
    /// contain the time, that of the id.
    async fn oldest_at(&self) -> Result<Option<Time>, Fault> {
        Ok(self.depth().await?.oldest.map(EntryId::time))
    }

    /// Forgets what every group has finished; never by length.
    async fn trim(&self) -> Result<u64, Fault>;
}
