//! The settings of a part that took effect, in order of version: what every strategy decides on.

use crate::record::{History, Setting};
use crate::{ChangeVersion, Hash, Part, Record, Writer};

use super::decide::Held;

/// A setting with its version, and what its writer took to be there when it made it.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) version: ChangeVersion,
    pub(super) setting: &'a Setting,
    /// What the writer said before, or what an operator decided since.
    pub(super) base: Option<Hash>,
}

impl Candidate<'_> {
    /// Whether its writer changed what it did not know: another's value that is neither the one it started from nor the
    /// one it came to.
    pub(super) fn conflicts_with(&self, held: &Held) -> bool {
        let own = held.version.writer == self.version.writer && held.merged.is_none();
        let wrote_on_top = self.version.writer.is_store() || self.version.writer == Writer::Operator;
        !own && !wrote_on_top && held.hash != self.base && held.hash != self.setting.hash
    }
}

/// Not among them: what a delete swept away, an echo (the value that another writer had set already), and the removal of
/// what its writer never set.
///
/// Whether a setting is an echo must not depend on what its writer, or another, says again without changing it. So what
/// was set since the newest delete is an echo only of what was, too; and what was set before it and is still said counts
/// as it stands.
pub(super) fn effective<'a>(record: &'a Record, part: &Part, deleted: Option<ChangeVersion>) -> Vec<Candidate<'a>> {
    let mut settings: Vec<Candidate<'a>> = Vec::new();
    for (writer, history) in &record.writers {
        let counts = |candidate: &Candidate<'a>| {
            deleted.is_none_or(|delete| {
                candidate.version > delete || still_said(history, *writer, part, candidate.setting, delete)
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
    let same = |other: &Candidate<'_>| since(other) && other.setting.hash == candidate.setting.hash;
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
    let decided = record.writers.get(&Writer::Operator).and_then(|operator| operator.parts.get(part));
    settings.iter().enumerate().map(move |(i, setting)| {
        let version = setting.version(writer);
        let said = i.checked_sub(1).and_then(|before| settings.get(before));
        // Its own delete empties a writer's base.
        let said = said.filter(|said| history.forgot(setting) || !history.forgot(said));
        // Every writer counts as having seen what an operator decided.
        let decision = decided.into_iter().flatten().rfind(|decision| decision.version(Writer::Operator) < version);
        let newest = match (said, decision) {
            (Some(said), Some(decision)) if decision.version(Writer::Operator) > said.version(writer) => Some(decision),
            (None, decision) => decision,
            (said, _) => said,
        };
        Candidate { version, setting, base: newest.and_then(|setting| setting.hash) }
    })
}

/// A setting from before the newest delete counts only if its writer has since published a view that still has it; which
/// can be the newest alone.
fn still_said(history: &History, writer: Writer, part: &Part, setting: &Setting, delete: ChangeVersion) -> bool {
    let newest = history.parts.get(part).and_then(|settings| settings.last()) == Some(setting);
    newest && !history.forgot(setting) && history.version(writer) > delete
}
