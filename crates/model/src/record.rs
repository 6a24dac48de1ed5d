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
mod history;
mod upkeep;

pub use history::{History, KEPT_SETTINGS, Reported, Setting};

const FORMAT: u8 = 2;

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
    /// ```
    /// use chunk_sync_model::Record;
    /// use chunk_sync_model::record::RecordError;
    ///
    /// let bytes = Record::default().encode()?;
    /// assert_eq!(Record::decode(&bytes)?, Record::default());
    /// assert!(matches!(Record::decode(b"\xff"), Err(RecordError::Format(Some(0xff)))));
    /// # Ok::<(), RecordError>(())
    /// ```
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

/// The hours between 1970 and the time.
pub(crate) fn hours(time: Time) -> u32 {
    u32::try_from(time.micros().max(0) / 3_600_000_000).unwrap_or(u32::MAX)
}
