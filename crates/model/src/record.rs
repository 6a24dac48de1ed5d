//! What the service remembers of a chunk beside its state: who set which part to what, and when.
//!
//! A record is the product of one history per writer, and each history depends on that writer's own sequence of changes
//! alone. Whatever is shown is a pure function of the histories, so it cannot depend on how the sequences interleave.
//!
//! # Format
//! A byte `1`, then the record in postcard's encoding. Values stand in it only where they are not the ones shown: those
//! are in the row, in the same transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChangeVersion, Hash, Origin, Part, SyncVersion, Time, Writer};

const FORMAT: u8 = 1;

/// How many settings of one part by one writer are kept: the newest may show, older ones tell an echo from a change, and
/// strategies look back on them. What a writer set before it has since changed this often is forgotten: the same value by
/// another writer is an echo no more.
pub const KEPT_SETTINGS: usize = 32;

/// The memory of one chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the state last merged.
    pub version: SyncVersion,
    /// One history per writer.
    pub writers: BTreeMap<Writer, History>,
}

/// What one writer did, in its own order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When it last said something.
    pub last: Time,
    /// The events it sent at that very microsecond, in order: they tell a repetition from one more change.
    pub seen: Vec<Uuid>,
    /// The fields that are no parts.
    pub said: Said,
    /// Its settings by part, each list in ascending order of version.
    pub parts: BTreeMap<Part, Vec<Setting>>,
}

/// What a writer said of the fields that are no parts and never in conflict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Every origin it gave.
    pub origins: Vec<Origin>,
    /// The smallest.
    pub created_at: Option<Time>,
    /// The largest.
    pub updated_at: Option<Time>,
    /// The newest, with the time of the view that gave it.
    pub indexed_at: Option<(Time, Time)>,
    /// The newest, with the time of the view that gave it.
    pub cognified_at: Option<(Time, Time)>,
    /// The newest, with the time of the view that gave it.
    pub processing_time_ms: Option<(Time, f64)>,
}

/// One change of one part by one writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// When.
    pub time: Time,
    /// How many changes of the writer in that microsecond came before.
    pub count: u32,
    /// What it set; `None` is a removal.
    pub hash: Option<Hash>,
    /// It counts even if another writer has set the same before.
    pub on_purpose: bool,
    /// Of an embedding: the content it was made for.
    pub made_for: Option<Hash>,
    /// The value as JSON, where the row does not show it.
    pub value: Option<String>,
}

impl Setting {
    pub(crate) fn version(&self, writer: Writer) -> ChangeVersion {
        ChangeVersion { time: self.time, writer, count: self.count }
    }
}

/// A record that this version of the service cannot read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by another version.
    #[error("a record of format {0:?}; this version reads format {FORMAT}")]
    Format(Option<u8>),
    /// Damaged.
    #[error("a damaged record")]
    Damaged(#[from] postcard::Error),
}

impl Record {
    /// The record as bytes.
    ///
    /// # Errors
    /// Only where memory runs out.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        Ok(postcard::to_extend(self, vec![FORMAT])?)
    }

    /// The record of these bytes.
    ///
    /// # Errors
    /// Where they are of another format, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(postcard::from_bytes(rest)?),
            other => Err(RecordError::Format(other.map(|(format, _)| *format))),
        }
    }

    /// Whether the chunk is there: the newest word on its existence decides. The word that it is gone is its tombstone.
    #[must_use]
    pub fn lives(&self) -> bool {
        let words = self.writers.iter().filter_map(|(writer, history)| {
            history
                .parts
                .get(&Part::Existence)?
                .last()
                .map(|setting| (setting.version(*writer), setting.hash.is_some()))
        });
        words.max_by_key(|(version, _)| *version).is_some_and(|(_, exists)| exists)
    }

    /// Whether an event is neither late nor a repetition.
    pub(crate) fn admits(&self, writer: Writer, time: Time, event: Uuid) -> bool {
        self.writers
            .get(&writer)
            .is_none_or(|history| time > history.last || (time == history.last && !history.seen.contains(&event)))
    }

    /// Who last set the part to that, and when.
    pub(crate) fn said_by(&self, part: &Part, hash: Hash) -> Option<(Writer, Time)> {
        let versions = self.writers.iter().filter_map(|(writer, history)| {
            let said = history.parts.get(part)?.iter().rfind(|setting| setting.hash == Some(hash));
            said.map(|setting| setting.version(*writer))
        });
        versions.max().map(|version| (version.writer, version.time))
    }

    /// The newest delete, by whomever.
    pub(crate) fn newest_delete(&self) -> Option<ChangeVersion> {
        self.writers.iter().filter_map(|(writer, history)| history.own_delete(*writer)).max()
    }

    /// The largest `updated_at` that anybody said.
    #[must_use]
    pub fn updated_at(&self) -> Option<Time> {
        self.writers.values().filter_map(|history| history.said.updated_at).max()
    }

    /// The time of the newest change.
    #[must_use]
    pub fn newest_change(&self) -> Time {
        self.writers.values().map(|history| history.last).max().unwrap_or(Time::from_micros(0))
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self { last: Time::from_micros(i64::MIN), seen: Vec::new(), said: Said::default(), parts: BTreeMap::new() }
    }

    /// Counts one more event: how many of its microsecond came before.
    pub(crate) fn count(&mut self, time: Time, event: Uuid) -> u32 {
        if time > self.last {
            self.last = time;
            self.seen.clear();
        }
        let count = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        self.seen.push(event);
        count
    }

    /// What the writer last said of the part: the base of its next change. Its own delete empties it.
    pub(crate) fn base(&self, part: &Part) -> Option<Hash> {
        self.parts.get(part)?.last().filter(|newest| !self.forgot(newest))?.hash
    }

    /// Whether the writer has deleted the chunk since.
    pub(crate) fn forgot(&self, setting: &Setting) -> bool {
        self.deletes().last().is_some_and(|delete| (setting.time, setting.count) <= (delete.time, delete.count))
    }

    /// Whether the writer has the chunk in view: it said something of it since its own last delete.
    pub(crate) fn knows(&self) -> bool {
        self.base(&Part::Existence).is_some()
    }

    pub(crate) fn set(&mut self, part: Part, setting: Setting) {
        if part == Part::Existence {
            self.exist(setting);
            return;
        }
        let settings = self.parts.entry(part).or_default();
        settings.push(setting);
        let surplus = settings.len().saturating_sub(KEPT_SETTINGS);
        settings.drain(..surplus);
    }

    /// Of existence two words count: the newest, and the newest delete, for it sweeps what is older however often the
    /// chunk was created since.
    fn exist(&mut self, setting: Setting) {
        let settings = self.parts.entry(Part::Existence).or_default();
        let keeps_last = setting.hash.is_some();
        settings.retain(|earlier| keeps_last && earlier.hash.is_none());
        settings.push(setting);
    }

    /// The version of the writer's newest word.
    pub(crate) fn version(&self, writer: Writer) -> ChangeVersion {
        let count = u32::try_from(self.seen.len().saturating_sub(1)).unwrap_or(u32::MAX);
        ChangeVersion { time: self.last, writer, count }
    }

    fn own_delete(&self, writer: Writer) -> Option<ChangeVersion> {
        self.deletes().last().map(|setting| setting.version(writer))
    }

    fn deletes(&self) -> impl Iterator<Item = &Setting> {
        self.parts.get(&Part::Existence).into_iter().flatten().filter(|setting| setting.hash.is_none())
    }
}
