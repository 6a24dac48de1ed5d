//! Expiry: what a record need not remember for ever. Superseded settings and values that are not shown are dropped once
//! they have been on record for the retention time; of a deleted chunk its version and the writers that knew it stay.
//!
//! What stays, whatever its age: each writer's newest setting of a part, the one before it (the base of the newest),
//! the newest one that takes effect with the one before that, the same for the newest one that takes effect with a value,
//! and every setting that makes one of these an echo. So expiry does not change what is shown; the result is compared,
//! and a record for which it would is left as it is. What a later event leads to is the same, unless it
//!
//! - publishes a value whose settings have all expired: it is a change then and no echo;
//! - is older than a removal that has expired: it sets the part again;
//! - discards, by a delete, the shown value in favour of one that has expired: the shown value stays.
//!
//! Of a deleted chunk also what writers that knew it published since expires; it was never shown.
//!
//! Strategies that replay the history of a part need all of it: such parts expire with the chunk only.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk::State;
use crate::hash::content_hash;
use crate::record::{History, Reported, Setting, hours};
use crate::{ChangeVersion, Hash, Part, Record, Time, Writer};

use super::Strategies;
use super::effective::{Candidate, effective};
use super::show::{Shown, show};
use super::values::{SHA256, Values, View};

/// How many removed parts a record remembers while they are younger than the retention time; beyond that the oldest are
/// dropped. A writer that sets and removes ever new parts thus cannot make the record grow without bound.
pub const KEPT_REMOVALS: usize = 256;

impl Record {
    /// Whether anything may expire that has been on record since before `before`. Cheap; [`expire`] decides.
    #[must_use]
    pub fn may_expire(&self, strategies: &Strategies, before: Time) -> bool {
        let before = hours(before);
        if !self.lives() {
            return self.is_deleted_since(before) && self.writers.values().any(remembers_parts);
        }
        let removed = |settings: &Vec<Setting>| settings.last().is_some_and(is_removal);
        let parts = self.writers.values().flat_map(|history| &history.parts);
        let (mut removals, mut old) = (0_usize, false);
        for (part, settings) in parts.filter(|(part, _)| **part != Part::Existence) {
            removals += usize::from(removed(settings));
            let superseded = settings.iter().rev().skip(1).rev().skip(1);
            let superseded = superseded.rev().skip(1).any(|next| next.recorded <= before);
            let value = settings.iter().any(|s| s.recorded <= before && s.value.as_ref().is_some_and(|v| is_text(v)));
            let removal = removed(settings) && settings.last().is_some_and(|last| last.recorded <= before);
            old |= removal || (!strategies.of(part).uses_history() && (superseded || value));
        }
        old || removals > KEPT_REMOVALS
    }

    /// Whether the newest delete has been on record since that hour.
    fn is_deleted_since(&self, before: u32) -> bool {
        let existence = self.writers.values().filter_map(|history| history.parts.get(&Part::Existence)).flatten();
        let newest = existence.filter(|setting| setting.hash.is_none()).map(|delete| delete.recorded).max();
        newest.is_some_and(|recorded| recorded <= before)
    }
}

fn remembers_parts(history: &History) -> bool {
    history.parts.keys().any(|part| *part != Part::Existence) || history.reported != Reported::default()
}

/// The record without what has been on record since before `before` and is not needed any more; `None` if nothing of it
/// expires. `state` is the chunk's shown state.
#[must_use]
pub fn expire(record: &Record, state: Option<&State>, strategies: &Strategies, before: Time) -> Option<Record> {
    if !record.may_expire(strategies, before) {
        return None;
    }
    if !record.lives() {
        return Some(tombstone(record));
    }
    let before = hours(before);
    let mut expired = record.clone();
    let view = state.map(|state| View::new(&state.chunk));
    let shown = shown(record, view.as_ref(), strategies);
    let removed = removed_parts(record, before);
    for history in expired.writers.values_mut() {
        history.parts.retain(|part, _| !removed.contains(part));
    }
    let parts: BTreeSet<Part> = expired.writers.values().flat_map(|history| history.parts.keys()).cloned().collect();
    for part in parts.iter().filter(|part| **part != Part::Existence && !strategies.of(part).uses_history()) {
        let values = take_values(&mut expired, part);
        drop_superseded(&mut expired, part, before);
        restore_values(&mut expired, part, values, &shown, before);
    }
    let mut expected = shown;
    expected.removed.retain(|part, _| !removed.contains(part));
    let same = self::shown(&expired, view.as_ref(), strategies) == expected;
    (same && expired != *record).then_some(expired)
}

/// What stays of a deleted chunk: its version, and for each writer the time of its last event and its settings of
/// existence.
#[must_use]
pub fn tombstone(record: &Record) -> Record {
    let mut record = record.clone();
    for history in record.writers.values_mut() {
        history.parts.retain(|part, _| *part == Part::Existence);
        history.reported = Reported::default();
    }
    record.forms = Box::default();
    record
}

/// Whether the part is neither set nor shown by the setting.
fn is_removal(setting: &Setting) -> bool {
    setting.hash.is_none() && setting.shown().is_none()
}

/// The shown values, as far as the record and the state have them.
fn shown(record: &Record, view: Option<&View<'_>>, strategies: &Strategies) -> Shown {
    let mut record = record.clone();
    let values = Values::new(&mut record, view, None);
    show(&record, strategies, &values)
}

/// The parts that every writer that ever set them has removed: the old ones, and the oldest beyond [`KEPT_REMOVALS`].
///
/// A removal that its writer named in `set` and that a later delete discarded counts again once that writer publishes
/// the chunk without the part. It does not grow old.
fn removed_parts(record: &Record, before: u32) -> BTreeSet<Part> {
    let deleted = record.newest_delete();
    let mut newest: BTreeMap<&Part, Option<(u32, ChangeVersion)>> = BTreeMap::new();
    for (writer, history) in &record.writers {
        for (part, last) in history.parts.iter().filter_map(|(part, settings)| Some((part, settings.last()?))) {
            let version = last.version(*writer);
            let may_return = last.on_purpose && deleted.is_some_and(|delete| version < delete);
            let since = if may_return { u32::MAX } else { last.recorded };
            let removal = is_removal(last).then_some((since, version));
            let entry = newest.entry(part).or_insert(removal);
            *entry = entry.zip(removal).map(|(one, other)| one.max(other));
        }
    }
    let mut removed: Vec<_> = newest.into_iter().filter_map(|(part, removal)| Some((removal?, part))).collect();
    removed.retain(|(_, part)| **part != Part::Existence);
    removed.sort_unstable();
    let surplus = removed.len().saturating_sub(KEPT_REMOVALS);
    let dropped = removed.iter().enumerate().filter(|(i, ((recorded, _), _))| *i < surplus || *recorded <= before);
    dropped.map(|(_, (_, part))| (*part).clone()).collect()
}

/// Drops the superseded settings of a part that are old enough, except those that stay.
fn drop_superseded(record: &mut Record, part: &Part, before: u32) {
    let anchors = anchors(record, part);
    let mut stays: BTreeMap<Writer, Vec<bool>> = BTreeMap::new();
    for (writer, history) in &record.writers {
        let settings = history.parts.get(part).map_or(&[][..], Vec::as_slice);
        let is_anchor = |i: usize| settings.get(i).is_some_and(|setting| anchors.contains(&setting.version(*writer)));
        let stay = |i: usize| {
            let superseded = settings.get(i + 1).is_some_and(|next| next.recorded <= before);
            !superseded || i + 2 >= settings.len() || is_anchor(i) || is_anchor(i + 1)
        };
        stays.insert(*writer, (0..settings.len()).map(stay).collect());
    }
    while keep_origins_of_echoes(record, part, &mut stays) {}
    for (writer, history) in &mut record.writers {
        if let (Some(settings), Some(stays)) = (history.parts.get_mut(part), stays.get(writer)) {
            let mut stays = stays.iter();
            settings.retain(|_| stays.next().copied().unwrap_or(true));
        }
    }
}

/// Keeps the settings whose value another writer's kept setting has, too: without them that setting would be no echo.
/// Returns whether there was one more.
fn keep_origins_of_echoes(record: &Record, part: &Part, stays: &mut BTreeMap<Writer, Vec<bool>>) -> bool {
    let settings: Vec<(Writer, usize, &Setting)> = record
        .writers
        .iter()
        .flat_map(|(writer, history)| {
            let settings = history.parts.get(part).into_iter().flatten().enumerate();
            settings.map(|(i, setting)| (*writer, i, setting))
        })
        .collect();
    let is_kept = |stays: &BTreeMap<Writer, Vec<bool>>, writer, i: usize| stays[&writer][i];
    let kept: BTreeSet<(Writer, Hash)> = settings
        .iter()
        .filter(|(writer, i, _)| is_kept(stays, *writer, *i))
        .filter_map(|(writer, _, setting)| Some((*writer, setting.hash?)))
        .collect();
    let mut more = false;
    for (writer, i, setting) in settings {
        let echoed = kept.iter().any(|(other, kept)| *other != writer && setting.is(Some(*kept)));
        if echoed && !is_kept(stays, writer, i) {
            stays.entry(writer).and_modify(|stays| stays[i] = true);
            more = true;
        }
    }
    more
}

/// Drops the values that are not shown, once both they and what is shown instead are old enough. An embedding may be
/// shown again as soon as the content is the one that it was computed from, so each writer's newest one stays. Of a
/// content its hash stays: the markers of a conflict show it.
///
/// A value is kept once, in the first setting that has it; `values` are those of the part, by hash.
fn restore_values(record: &mut Record, part: &Part, mut values: BTreeMap<Hash, String>, shown: &Shown, before: u32) {
    let newest = newest_effective(record, part);
    let is_vector = matches!(part, Part::Dense(_) | Part::Sparse);
    let shows = shown.parts.get(part).map(|value| value.version).or(shown.removed.get(part).copied());
    // A row that cannot be seen has its shown values in the record.
    let mut needed: BTreeSet<Hash> = shown.parts.get(part).map(|value| value.hash).into_iter().collect();
    let mut settled = true;
    for (writer, history) in &record.writers {
        for setting in history.parts.get(part).into_iter().flatten() {
            let version = setting.version(*writer);
            settled &= Some(version) != shows || setting.recorded <= before;
            if setting.recorded > before || (is_vector && newest.get(writer) == Some(&version)) {
                needed.extend(setting.shown());
            }
        }
    }
    let settings = record.writers.values_mut().filter_map(|history| history.parts.get_mut(part)).flatten();
    for setting in settings {
        let Some((hash, value)) = setting.shown().and_then(|hash| Some((hash, values.remove(&hash)?))) else {
            continue;
        };
        let stays = !settled || needed.contains(&hash);
        setting.value = if stays { Some(value) } else { remainder(part, value) };
    }
}

/// Takes the values of a part out of the record.
fn take_values(record: &mut Record, part: &Part) -> BTreeMap<Hash, String> {
    let settings = record.writers.values_mut().filter_map(|history| history.parts.get_mut(part)).flatten();
    settings.filter_map(|setting| setting.shown().zip(setting.value.take())).collect()
}

/// What stays of an expired value.
fn remainder(part: &Part, value: String) -> Option<String> {
    if *part != Part::Content || !is_text(&value) {
        return (*part == Part::Content).then_some(value);
    }
    let text: String = serde_json::from_str(&value).ok()?;
    Some(format!("{SHA256}{}", content_hash(&text)))
}

/// Whether the value itself is kept, and not only its hash.
fn is_text(value: &str) -> bool {
    !value.starts_with(SHA256)
}

/// The settings that stay with the one before them: each writer's newest one that takes effect, and its newest one that
/// takes effect with a value. Without the latter, a later removal would not take effect.
fn anchors(record: &Record, part: &Part) -> BTreeSet<ChangeVersion> {
    let effective = effective(record, part, record.newest_delete());
    let with_value = newest_of_each(effective.iter().filter(|candidate| candidate.setting.hash.is_some()));
    newest_of_each(&effective).into_values().chain(with_value.into_values()).collect()
}

/// The newest setting of each writer that takes effect.
fn newest_effective(record: &Record, part: &Part) -> BTreeMap<Writer, ChangeVersion> {
    newest_of_each(&effective(record, part, record.newest_delete()))
}

/// The last of the candidates of each writer; they are in the order of their versions.
fn newest_of_each<'a>(candidates: impl IntoIterator<Item = &'a Candidate<'a>>) -> BTreeMap<Writer, ChangeVersion> {
    candidates.into_iter().map(|candidate| (candidate.version.writer, candidate.version)).collect()
}
