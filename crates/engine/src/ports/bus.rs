//! The bus: it holds each event until every store holds the state that the event led to.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use uuid::Uuid;

use super::{DeadLetters, Fault, Handover};

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
    /// When the entry was added, by the bus's clock.
    pub added_at: Time,
    /// The bus's clock when the entry was read.
    pub read_at: Time,
    /// The fields as they were published.
    pub fields: Fields,
}

impl Delivery {
    /// The bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The bus's clock for the entry: times of changes are compared with it. The earlier of the two times, because an
    /// entry id may lie in the future: a client can choose it, and a server whose clock was set back continues above it.
    #[must_use]
    pub fn clock(&self) -> Time {
        self.added_at.min(self.read_at)
    }
}

/// What [`Bus::erase`] does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasing {
    /// Counts it: nothing is removed.
    Count,
    /// Removes it.
    Remove,
}

/// What [`Bus::erase`] found of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusErasure {
    /// Entries that are not finished; if there are any, nothing was removed.
    pub unfinished: u64,
    /// Finished entries that were removed, or would be.
    pub removed: u64,
}

/// The chunk of an entry, also if it is not a valid event; `None` if its field `chunk` has no id.
#[must_use]
pub fn chunk_of(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<Uuid> {
    let (_, chunk) = fields.iter().find(|(name, _)| name == b"chunk")?;
    chunk_id(chunk)
}

/// The id in the text of a chunk. Of a long dead letter only the beginning is read: an id in that part counts.
pub(crate) fn chunk_id(chunk: &[u8]) -> Option<Uuid> {
    let (found, mut text) = (Cell::new(None), serde_json::Deserializer::from_slice(chunk));
    let read = text.deserialize_map(Identity(&found)).and_then(|()| text.end());
    // Text that is no JSON names no chunk for certain.
    if read.is_err_and(|error| !error.is_eof()) { None } else { found.get() }
}

/// Keeps the id as soon as it is read, so that it is known if the text ends early.
struct Identity<'a>(&'a Cell<Option<Uuid>>);

impl<'de> Visitor<'de> for Identity<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a chunk")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "id" {
                let id: serde_json::Value = map.next_value()?;
                self.0.set(id.as_str().and_then(|id| id.parse().ok()));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
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

/// What the operator must know of a bus beyond its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusCondition {
    /// The number of entries that were lost before they were finished, because other programs removed them or the server
    /// lost them. The epoch changed with each loss.
    pub lost: u64,
    /// Conditions that lose entries or fill the bus sooner or later, each with its remedy.
    pub warnings: Vec<String>,
}

/// What finishes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishedBy {
    /// [`Bus::acknowledge`]. The bus and the system of record are two systems: until the acknowledgement, an event that
    /// was merged and has not reached every store is in the write-ahead log.
    Acknowledgement,
    /// The merge. Entries are in the database of the system of record, and
    /// [`MergeTransaction::commit`](super::MergeTransaction::commit) deletes them in the transaction that adds the
    /// writes of every store to the outbox. Their events are not logged, and a published entry is as durable as the rows.
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
///   process released the lease, or if the same process reads on. [`recount`](Bus::recount) sets the number.
/// - **Durability**: a published entry survives a crash of this process; on a server it is as durable as that server.
/// - **Repetition**: an entry may be handed out again until it is acknowledged, also after an acknowledgement was lost.
/// - **Shutdown**: a read that is dropped loses nothing: the entries that it had been handed are handed out again.
#[async_trait]
pub trait Bus: DeadLetters {
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

    /// Sets the count of an unfinished entry that this process has: after a silent handover its
    /// [`attempt`](Delivery::attempt) is `attempt` plus one. Changes nothing if the entry is finished.
    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault>;

    /// Counts the unfinished entries of the chunk; if there are none, removes its finished ones, which the bus may hold for
    /// other groups.
    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault>;

    /// The bus's clock: that of its server, or of this machine if the bus is embedded.
    async fn now(&self) -> Result<Time, Fault>;

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

    /// What the operator must know beyond the entries. The default implementation returns nothing: no other program can
    /// change the bus.
    async fn condition(&self) -> Result<BusCondition, Fault> {
        Ok(BusCondition::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_of_a_text_that_was_cut_is_known_by_an_id_before_the_cut() {
        let id = Uuid::from_u128(7);
        let whole = format!(r#"{{"metadata":{{"id":"other"}},"id":"{id}","content":"long"}}"#);
        let known = whole.find("0007").unwrap_or_default() + 5;
        for end in 0..=whole.len() {
            let expected = (end >= known).then_some(id);
            assert_eq!(chunk_id(&whole.as_bytes()[..end]), expected, "{}", &whole[..end]);
        }
        let nested = format!(r#"{{"content":"see","parent":{{"id":"{id}","content":"lo"#);
        for other in [nested, format!(r#"{{"id":"{id}" broken"#), format!(r#"["{id}""#), id.to_string()] {
            assert_eq!(chunk_id(other.as_bytes()), None, "{other}");
        }
    }
}
