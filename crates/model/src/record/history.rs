//! What a record keeps of each writer: its settings, and its bases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChangeVersion, Hash, Origin, Part, Time, Writer};

/// How many settings of one part are kept per writer. The newest may be shown. Older ones distinguish an echo (a value
/// that another writer has set before) from a change, and some strategies use them. Older settings are dropped: if
/// another writer then sets the value of a dropped setting, it no longer counts as an echo.
pub const KEPT_SETTINGS: usize = 32;

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

    pub(super) fn own_delete(&self, writer: Writer) -> Option<ChangeVersion> {
        self.deletes().last().map(|setting| setting.version(writer))
    }

    fn deletes(&self) -> impl Iterator<Item = &Setting> {
        self.parts.get(&Part::Existence).into_iter().flatten().filter(|setting| setting.hash.is_none())
    }
}

/// A time before every change.
fn never() -> Time {
    Time::from_micros(i64::MIN)
}
