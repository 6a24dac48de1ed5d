//! The row as stored counts: a trigger, a default or a type may make another state of the one that a merge wrote. The
//! record then knows both forms of what it shows.
//!
//! A part that a setting shows keeps that setting, with its version: the stored form is shown in its place. A part that
//! no setting shows was set by the database: it becomes a setting by `postgres` at the time of the newest change. The
//! same holds for a text that is the result of a line merge, which no setting has.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Strategies;
use super::assemble::set_reported;
use super::keep::keep_values;
use super::show::{Shown, show};
use super::values::{Values, View};
use crate::chunk::{Chunk, State};
use crate::parse::is_marker;
use crate::record::{Form, Forms, History, Setting};
use crate::{ChangeVersion, Hash, Part, Record, Writer};

/// The record after the row became `stored`, where the merge wrote `sent`. Its sync version stays: `sent` reached no
/// store.
#[must_use]
pub fn stored_as(mut record: Record, sent: &State, stored: &State, strategies: &Strategies) -> Record {
    let (view, row) = (View::new(&sent.chunk), View::new(&stored.chunk));
    let values = Values::new(&mut record, Some(&view), Some(&row));
    let shown = show(&record, strategies, &values);
    let (was, is) = (hashes(&view), hashes(&row));
    let mut new = BTreeMap::new();
    for part in was.keys().chain(is.keys()).filter(|part| was.get(*part) != is.get(*part)) {
        let hash = is.get(part).copied();
        match version(&shown, part, was.get(part)) {
            Some(version) => record.store(part, version, was.get(part).copied(), hash),
            None => drop(new.insert(part.clone(), hash)),
        }
    }
    // The same row is the same event.
    let row: Vec<u8> = is.values().flat_map(Hash::bytes).copied().collect();
    let content = is.get(&Part::Content).map(|content| record.set_form(*content));
    record.set_by_database(new, content, Uuid::new_v5(&stored.chunk.id, &row));
    record.forms = Box::new(forms(&record, &sent.chunk, &stored.chunk));
    let shown = show(&record, strategies, &values);
    keep_values(&mut record, &shown, strategies, &values);
    record
}

fn hashes(view: &View<'_>) -> BTreeMap<Part, Hash> {
    view.parts.iter().filter(|(part, ..)| !is_marker(part)).map(|(part, hash, _)| (part.clone(), *hash)).collect()
}

/// The version of the setting that shows the part with this value; `None` if none does.
fn version(shown: &Shown, part: &Part, hash: Option<&Hash>) -> Option<ChangeVersion> {
    let value = shown.parts.get(part).filter(|value| value.merged.is_none() && Some(&value.hash) == hash)?;
    Some(value.version)
}

fn forms(record: &Record, sent: &Chunk, stored: &Chunk) -> Forms {
    let mut set = sent.clone();
    set_reported(record, &mut set);
    let (set_times, times) = (&set.metadata, &stored.metadata);
    Forms {
        created_at: Form::of(set_times.created_at, times.created_at),
        updated_at: Form::of(set_times.updated_at, times.updated_at),
        indexed_at: Form::of(set_times.indexed_at, times.indexed_at),
        cognified_at: Form::of(set_times.cognified_at, times.cognified_at),
        processing_time_ms: Form::of(set_times.processing_time_ms, times.processing_time_ms),
        system_origin: Form::of(set.system_origin, stored.system_origin),
    }
}

impl Forms {
    /// Replaces the fields that follow from the histories by what the row shows in their place.
    pub(super) fn apply(&self, chunk: &mut Chunk) {
        let metadata = &mut chunk.metadata;
        Form::apply(self.created_at, &mut metadata.created_at);
        Form::apply(self.updated_at, &mut metadata.updated_at);
        Form::apply(self.indexed_at, &mut metadata.indexed_at);
        Form::apply(self.cognified_at, &mut metadata.cognified_at);
        Form::apply(self.processing_time_ms, &mut metadata.processing_time_ms);
        Form::apply(self.system_origin, &mut chunk.system_origin);
    }
}

impl Record {
    /// Notes the stored form of the setting with this version, and of the others by which the same value was set: their
    /// writers read it in this form, too.
    fn store(&mut self, part: &Part, version: ChangeVersion, was: Option<Hash>, hash: Option<Hash>) {
        for (writer, history) in &mut self.writers {
            for setting in history.parts.get_mut(part).into_iter().flatten() {
                let same = setting.hash == was && setting.stored.is_none();
                if same || setting.version(*writer) == version {
                    setting.stored = Some(hash).filter(|hash| setting.hash != *hash);
                }
            }
        }
    }

    /// The content as it was set, of which this is the stored form; the newest if there are several, else itself.
    pub(super) fn set_form(&self, content: Hash) -> Hash {
        let of = |(writer, history): (&Writer, &History)| {
            let settings = history.parts.get(&Part::Content)?;
            let setting = settings.iter().rfind(|setting| setting.stored == Some(Some(content)))?;
            Some((setting.version(*writer), setting.hash?))
        };
        self.writers.iter().filter_map(of).max().map_or(content, |(_, set)| set)
    }

    /// Adds settings by `postgres`; embeddings belong to the content that the row shows.
    fn set_by_database(&mut self, parts: BTreeMap<Part, Option<Hash>>, content: Option<Hash>, event: Uuid) {
        if parts.is_empty() {
            return;
        }
        let time = self.newest_change();
        let history = self.writers.entry(Writer::Postgres).or_insert_with(History::new);
        let count = history.count(time, event);
        for (part, hash) in parts {
            let made_for = content.filter(|_| matches!(part, Part::Dense(_) | Part::Sparse));
            let setting =
                Setting { time, count, hash, stored: None, on_purpose: true, made_for, value: None, recorded: 0 };
            history.set(part, setting);
        }
    }
}
