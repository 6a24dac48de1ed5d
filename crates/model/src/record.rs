//! The record of a chunk: which writer set which part to which value, and when.
//!
//! A record consists of one history per writer. A history depends only on that writer's own sequence of changes. The
//! shown state is a pure function of the histories, so it does not depend on how the sequences interleave.
//!
//! # Format
//! One byte `2`, then the record in postcard's encoding, then what expiry needs to know of it (`upkeep.rs`), which a
//! reader may leave out. Format 1, without stored forms, is read. The record contains a value if a later merge may need
//! it and may not find it in the row. Shown values are in the row, which is written in the same transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChangeVersion, Hash, Origin, Part, SyncVersion, Time, Writer};

mod format_1;
mod upkeep;

const FORMAT: u8 = 2;

/// How many settings of one part are kept per writer. The newest may be shown. Older ones distinguish an echo (a value
/// that another writer has set before) from a change, and some strategies use them. Older settings are dropped: if
/// another writer then sets the value of a dropped setting, it no longer counts as an echo.
pub const KEPT_SETTINGS: usize = 32;

/// How many events of one writer may change a chunk in one microsecond. Their ids are kept while the writer's time
/// stands still, and distinguish a repetition from a further change.
pub const MOST_AT_ONCE: usize = 1024;

/// The merge history of one chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the last merged state.
    pub version: SyncVersion,
    /// One history per writer.
    pub writers: BTreeMap<Writer, History>,
    /// What the row shows in place of fields that are not parts.
    pub forms: Box<Forms>,
}

/// The stored forms of the fields that are not parts: a trigger may replace `updated_at`, for example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forms {
    /// `metadata.created_at`
    pub created_at: Option<Form<Time>>,
    /// `metadata.updated_at`
    pub updated_at: Option<Form<Time>>,
    /// `metadata.indexed_at`
    pub indexed_at: Option<Form<Option<Time>>>,
    /// `metadata.cognified_at`
    pub cognified_at: Option<Form<Option<Time>>>,
    /// `metadata.processing_time_ms`
    pub processing_time_ms: Option<Form<Option<f64>>>,
    /// `system_origin`
    pub system_origin: Option<Form<Origin>>,
}

/// A value that follows from the histories, and what the row shows in its place. It applies until another value follows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Form<T> {
    /// What follows from the histories.
    pub set: T,
    /// What the row shows.
    pub stored: T,
}

impl<T: Copy + PartialEq> Form<T> {
    /// The form of a value that was stored differently.
    pub(crate) fn of(set: T, stored: T) -> Option<Self> {
        (set != stored).then_some(Self { set, stored })
    }

    /// Replaces the value by its stored form.
    pub(crate) fn apply(form: Option<Self>, value: &mut T) {
        if let Some(form) = form.filter(|form| form.set == *value) {
            *value = form.stored;
        }
    }
}

/// The changes of one writer, in that writer's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The time of the writer's last event.
    pub last: Time,
    /// The ids of the writer's events in that microsecond, in order. They distinguish a repetition from a further
    /// change.
    pub seen: Vec<Uuid>,
    /// The time of the writer's last event that left no part out as unchanged: it replaces everything that the writer
    /// had published before, whether or not that was ever merged.
    #[serde(skip, default = "never")]
    pub whole: Time,
    /// The latest values of the fields that are not parts.
    pub reported: Reported,
    /// The writer's settings by part, each list in ascending order of version.
    pub parts: BTreeMap<Part, Vec<Setting>>,
}

/// What a writer reported for the fields that are not parts. These fields never conflict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// All origins that the writer reported.
    pub origins: Vec<Origin>,
    /// The smallest value.
    pub created_at: Option<Time>,
    /// The largest value.
    pub updated_at: Option<Time>,
    /// The newest value, preceded by the time of the view that contained it.
    pub indexed_at: Option<(Time, Time)>,
    /// The newest value, preceded by the time of the view that contained it.
    pub cognified_at: Option<(Time, Time)>,
    /// The newest value, preceded by the time of the view that contained it.
    pub processing_time_ms: Option<(Time, f64)>,
}

/// One change of one part by one writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// When the change was made.
    pub time: Time,
    /// How many earlier changes the writer made in the same microsecond.
    pub count: u32,
    /// The hash of the value; `None` for a removal.
    pub hash: Option<Hash>,
    /// The hash of the stored form, if a trigger, a default or the like made another value of it in the row; the inner
    /// `None` if it removed the value. It is shown in place of the value, and counts as the same value for bases and
    /// echoes.
    pub stored: Option<Option<Hash>>,
    /// Whether the setting takes effect even if another writer has set the same value before.
    pub on_purpose: bool,
    /// For an embedding: the hash of the content that it was computed from.
    pub made_for: Option<Hash>,
    /// The value as JSON, if a later merge may need it and may not find it in the row. Of an expired content only
    /// `sha256:` and its full hash.
    pub value: Option<String>,
    /// When the service recorded the setting, in hours since 1970; 0 until [`Record::stamp`].
    #[serde(skip)]
    pub recorded: u32,
}

impl Setting {
    pub(crate) fn version(&self, writer: Writer) -> ChangeVersion {
        ChangeVersion { time: self.time, writer, count: self.count }
    }

    /// The hash of the value as the row shows it.
    pub(crate) fn shown(&self) -> Option<Hash> {
        self.stored.unwrap_or(self.hash)
    }

    /// Whether this is the value, as it was set or as it is stored.
    pub(crate) fn is(&self, hash: Option<Hash>) -> bool {
        self.hash == hash || self.stored == Some(hash)
    }
}

/// Why a record cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another version of the service wrote the record.
    #[error("record has format {0:?}, this version reads formats 1 to {FORMAT}; run the version that wrote the record")]
    Format(Option<u8>),
    /// The bytes are damaged: postcard cannot decode them.
    #[error("record is damaged: it does not decode in the format of its first byte")]
    Damaged(#[from] postcard::Error),
}

impl Record {
    /// Encodes the record; see the module's documentation for the format.
    ///
    /// # Errors
    /// If postcard cannot serialise it, which the types of a record never cause.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.append_upkeep(postcard::to_extend(self, vec![FORMAT])?)
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// [`RecordError::Format`] if the first byte is not the number of a format or is missing; [`RecordError::Damaged`]
    /// if the rest does not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => {
                let (mut record, rest): (Self, _) = postcard::take_from_bytes(rest)?;
                record.take_upkeep(rest)?;
                Ok(record)
            }
            Some((&format_1::FORMAT, rest)) => Ok(postcard::from_bytes::<format_1::Record>(rest)?.into()),
            other => Err(RecordError::Format(other.map(|(format, _)| *format))),
        }
    }

    /// Notes when the settings that are new in the record were recorded. Expiry counts from then: the time of a change
    /// may be long past when its event arrives.
    pub fn stamp(&mut self, now: Time) {
        let settings = self.writers.values_mut().flat_map(|history| history.parts.values_mut()).flatten();
        settings.filter(|setting| setting.recorded == 0).for_each(|setting| setting.recorded = hours(now));
    }

    /// Whether the chunk exists: the newest setting of [`Part::Existence`] decides. A setting that removes it is the
    /// chunk's tombstone.
    #[must_use]
    pub fn lives(&self) -> bool {
        let settings = self.writers.iter().filter_map(|(writer, history)| {
            history
                .parts
                .get(&Part::Existence)?
                .last()
                .map(|setting| (setting.version(*writer), setting.hash.is_some()))
        });
        settings.max_by_key(|(version, _)| *version).is_some_and(|(_, exists)| exists)
    }

    /// Whether an event is late or a repetition, and so changes nothing.
    #[must_use]
    pub fn repeats(&self, writer: Writer, time: Time, event: Uuid) -> bool {
        !self.admits(writer, time, event)
    }

    /// Whether an event is neither late nor a repetition.
    pub(crate) fn admits(&self, writer: Writer, time: Time, event: Uuid) -> bool {
        self.writers
            .get(&writer)
            .is_none_or(|history| time > history.last || (time == history.last && !history.seen.contains(&event)))
    }

    /// The writer that last set the part to this value, and when.
    pub(crate) fn last_set_by(&self, part: &Part, hash: Hash) -> Option<(Writer, Time)> {
        let versions = self.writers.iter().filter_map(|(writer, history)| {
            let newest = history.parts.get(part)?.iter().rfind(|setting| setting.is(Some(hash)));
            newest.map(|setting| setting.version(*writer))
        });
        versions.max().map(|version| (version.writer, version.time))
    }

    /// The version of the newest delete by any writer.
    pub(crate) fn newest_delete(&self) -> Option<ChangeVersion> {
        self.writers.iter().filter_map(|(writer, history)| history.own_delete(*writer)).max()
    }

    /// Whether a writer created or deleted the chunk at this time or later.
    #[must_use]
    pub fn existence_set_since(&self, time: Time) -> bool {
        let settings = self.writers.values().filter_map(|history| history.parts.get(&Part::Existence)).flatten();
        settings.into_iter().any(|setting| setting.time >= time)
    }

    /// The largest `updated_at` that any writer reported or the row shows.
    #[must_use]
    pub fn updated_at(&self) -> Option<Time> {
        let reported = self.writers.values().filter_map(|history| history.reported.updated_at);
        reported.chain(self.forms.updated_at.map(|form| form.stored)).max()
    }

    /// The time of the newest event of any writer.
    #[must_use]
    pub fn newest_change(&self) -> Time {
        self.writers.values().map(|history| history.last).max().unwrap_or(Time::from_micros(0))
    }
}

/// A time before every change.
fn never() -> Time {
    Time::from_micros(i64::MIN)
}

/// The hours between 1970 and the time.
pub(crate) fn hours(time: Time) -> u32 {
    u32::try_from(time.micros().max(0) / 3_600_000_000).unwrap_or(u32::MAX)
}

impl History {
    pub(crate) fn new() -> Self {
        Self { last: never(), seen: Vec::new(), whole: never(), reported: Reported::default(), parts: BTreeMap::new() }
    }

    /// Adds an event; returns how many earlier events of the writer have the same microsecond.
    pub(crate) fn count(&mut self, time: Time, event: Uuid) -> u32 {
        if time > self.last {
            self.last = time;
            self.seen.clear();
        }
        let count = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        self.seen.push(event);
        count
    }

    /// The value that the writer last set for the part: the base of its next change. The writer's own delete clears it.
    pub(crate) fn base(&self, part: &Part) -> Option<Hash> {
        self.parts.get(part)?.last().filter(|newest| !self.deleted_since(newest))?.hash
    }

    /// Whether the writer last set the part to this value, or never set it if `hash` is `None`.
    pub(crate) fn base_is(&self, part: &Part, hash: Option<Hash>) -> bool {
        let newest = self.parts.get(part).and_then(|settings| settings.last());
        newest.filter(|newest| !self.deleted_since(newest)).map_or(hash.is_none(), |newest| newest.is(hash))
    }

    /// Whether the writer has deleted the chunk after this setting.
    pub(crate) fn deleted_since(&self, setting: &Setting) -> bool {
        self.deletes().last().is_some_and(|delete| (setting.time, setting.count) <= (delete.time, delete.count))
    }

    /// Whether the writer knows the chunk: it has set existence since its own last delete.
    pub(crate) fn knows(&self) -> bool {
        self.base(&Part::Existence).is_some()
    }

    pub(crate) fn set(&mut self, part: Part, setting: Setting) {
        if part == Part::Existence {
            self.set_existence(setting);
            return;
        }
        let settings = self.parts.entry(part).or_default();
        settings.push(setting);
        let surplus = settings.len().saturating_sub(KEPT_SETTINGS);
        settings.drain(..surplus);
    }

    /// Keeps two settings of existence: the newest, and the newest delete. The delete still discards older settings of
    /// other parts, however often the chunk was created since.
    fn set_existence(&mut self, setting: Setting) {
        let settings = self.parts.entry(Part::Existence).or_default();
        let keeps_last = setting.hash.is_some();
        settings.retain(|earlier| keeps_last && earlier.hash.is_none());
        settings.push(setting);
    }

    /// The version of the writer's newest event.
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
