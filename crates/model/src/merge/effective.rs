//! The effective settings of a part, in order of version: the input of every strategy.

use crate::record::{History, Setting};
use crate::{ChangeVersion, Hash, Part, Record, Writer};

/// The current value of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Current {
    /// The version of the newest setting that contributed to the value.
    pub(super) version: ChangeVersion,
    /// The hash of the value, as the row shows it; `None` if the part is removed.
    pub(super) hash: Option<Hash>,
    /// The hash of the value as it was set.
    pub(super) set: Option<Hash>,
    /// For an embedding: the hash of the content that it was computed from.
    pub(super) made_for: Option<Hash>,
    /// The text, if it is the result of a line merge and no writer set it.
    pub(super) merged: Option<String>,
}

/// A setting with its version and the base that its writer knew.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) version: ChangeVersion,
    pub(super) setting: &'a Setting,
    /// The value that the writer set before, or an operator's later resolution, as the row shows it.
    pub(super) base: Option<Hash>,
}

impl Candidate<'_> {
    /// Whether the setting changes a value that its writer did not know: another writer's value that is neither the
    /// setting's base nor its new value.
    pub(super) fn conflicts_with(&self, current: &Current) -> bool {
        let own = current.version.writer == self.version.writer && current.merged.is_none();
        let knew_current = self.version.writer.is_store() || self.version.writer == Writer::Operator;
        !own && !knew_current && current.hash != self.base && current.hash != self.setting.hash
    }
}

/// Returns the effective settings of `part`. Not effective are: settings discarded by the newest delete (`deleted`),
/// echoes (the value was already set by another writer), and removals of a part that the writer never set.
///
/// Whether a setting is an echo must not depend on views that repeat a value without changing it. So a setting newer
/// than the delete is an echo only of settings that are newer, too; and a setting older than the delete that its writer
/// still publishes is never an echo.
pub(super) fn effective<'a>(record: &'a Record, part: &Part, deleted: Option<ChangeVersion>) -> Vec<Candidate<'a>> {
    let mut settings: Vec<Candidate<'a>> = Vec::new();
    for (writer, history) in &record.writers {
        let counts = |candidate: &Candidate<'a>| {
            deleted.is_none_or(|delete| {
                candidate.version > delete || still_published(history, *writer, part, candidate.setting, delete)
            })
        };
        settings.extend(candidates(record, *writer, history, part).filter(counts));
    }
    settings.sort_unstable_by_key(|candidate| candidate.version);
    let mut effective: Vec<Candidate<'a>> = Vec::with_capacity(settings.len());
    for candidate in settings {
        if takes_effect(&candidate, &effective, deleted) {
            effective.push(candidate);
        }
    }
    effective
}

fn takes_effect(candidate: &Candidate<'_>, earlier: &[Candidate<'_>], deleted: Option<ChangeVersion>) -> bool {
    let own = |other: &&Candidate<'_>| other.version.writer == candidate.version.writer;
    let since = |c: &Candidate<'_>| deleted.is_none_or(|delete| c.version > delete);
    let same = |other: &Candidate<'_>| since(other) && other.setting.is(candidate.setting.hash);
    candidate.setting.on_purpose
        || match candidate.setting.hash {
            Some(_) => !since(candidate) || !earlier.iter().any(|other| !own(&other) && same(other)),
            None => earlier.iter().filter(own).any(|other| other.setting.hash.is_some()),
        }
}

fn candidates<'a>(
    record: &'a Record,
    writer: Writer,
    history: &'a History,
    part: &Part,
) -> impl Iterator<Item = Candidate<'a>> {
    let settings = history.parts.get(part).map_or(&[][..], Vec::as_slice);
    let resolutions = record.writers.get(&Writer::Operator).and_then(|operator| operator.parts.get(part));
    settings.iter().enumerate().map(move |(i, setting)| {
        let version = setting.version(writer);
        let own = i.checked_sub(1).and_then(|before| settings.get(before));
        // The writer's own delete clears its base.
        let own = own.filter(|own| history.deleted_since(setting) || !history.deleted_since(own));
        // Every writer is assumed to know the resolutions of an operator.
        let resolution = resolutions.into_iter().flatten().rfind(|other| other.version(Writer::Operator) < version);
        let newest = match (own, resolution) {
            (Some(own), Some(other)) if other.version(Writer::Operator) > own.version(writer) => Some(other),
            (None, other) => other,
            (own, _) => own,
        };
        Candidate { version, setting, base: newest.and_then(Setting::shown) }
    })
}

/// Whether a setting older than the newest delete is still effective: its writer has since published a view that
/// contains the value. Only the writer's newest setting can be.
fn still_published(history: &History, writer: Writer, part: &Part, setting: &Setting, delete: ChangeVersion) -> bool {
    let newest = history.parts.get(part).and_then(|settings| settings.last()) == Some(setting);
    newest && !history.deleted_since(setting) && history.version(writer) > delete
}
