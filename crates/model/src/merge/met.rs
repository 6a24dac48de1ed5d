//! The conflicts that a change met, with all that their record needs, and those that it ended.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Hash, Part, Record, Writer};

use super::change::Changed;
use super::effective::effective;
use super::show::Shown;
use super::values::Values;
use super::{Conflict, Kind, Outcome, Side, Strategies};

pub(super) fn conflicts(
    record: &Record,
    changed: &Changed,
    before: &Shown,
    after: &Shown,
    strategies: &Strategies,
    values: &Values<'_>,
) -> Vec<Conflict> {
    let meeting = Meeting { record, changed, before, after, strategies, values };
    changed.parts.iter().filter_map(|(part, hash)| meeting.on(part, *hash)).collect()
}

/// The parts that waited for a person before the change and do no more; and those that an operator decided on, whatever
/// decided on them before.
pub(super) fn decided(changed: &Changed, before: &Shown, after: &Shown) -> Vec<Part> {
    let by_operator = changed.parts.keys().filter(|_| changed.version.writer == Writer::Operator);
    let parts: BTreeSet<&Part> = before.open.iter().chain(by_operator).collect();
    parts.into_iter().filter(|part| !after.open.contains(*part)).cloned().collect()
}

struct Meeting<'a> {
    record: &'a Record,
    changed: &'a Changed,
    before: &'a Shown,
    after: &'a Shown,
    strategies: &'a Strategies,
    values: &'a Values<'a>,
}

impl Meeting<'_> {
    fn on(&self, part: &Part, source: Option<Hash>) -> Option<Conflict> {
        let (base, target) = (self.base(part)?, self.target(part));
        let own = target.writer == Some(self.changed.version.writer) && !self.merged(self.before, part);
        let unknown = target.hash != base.hash || self.under_tombstone();
        if !unknown || target.hash == source || own || self.revives(part) {
            return None;
        }
        let version = self.changed.version;
        let source = self.side(part, Some((version.writer, version.time)), source);
        let result = self.result(part, &target);
        Some(Conflict {
            part: part.clone(),
            kind: Kind::of(part),
            strategy: self.strategies.of(part),
            outcome: self.outcome(part, &source, &target, &result),
            base,
            source,
            target,
            result,
        })
    }

    /// What the source started from; `None` where it changed nothing after all: an echo, or what it wrote on top of what
    /// it saw.
    fn base(&self, part: &Part) -> Option<Side> {
        let version = self.changed.version;
        if version.writer.is_store() || version.writer == Writer::Operator {
            return None;
        }
        if *part == Part::Existence {
            let base = self.changed.knew.then(Hash::of_existence);
            return Some(self.side(part, Some((version.writer, version.time)), base));
        }
        let settings = effective(self.record, part, None);
        let own = settings.iter().find(|candidate| candidate.version == version)?;
        let said = settings.iter().rfind(|c| c.version < version && c.setting.hash == own.base);
        let by = said.filter(|_| own.base.is_some()).map(|said| (said.version.writer, said.version.time));
        Some(self.side(part, by, own.base))
    }

    fn target(&self, part: &Part) -> Side {
        if !self.before.exists {
            let deleted = self.record.newest_delete().map(|delete| (delete.writer, delete.time));
            return self.side(part, deleted, None);
        }
        if *part == Part::Existence {
            return self.side(part, None, self.before.hash(part));
        }
        self.of_shown(self.before, part)
    }

    fn result(&self, part: &Part, target: &Side) -> Side {
        match part {
            _ if !self.after.exists => Side { hash: None, value: None, ..target.clone() },
            Part::Existence => self.side(part, None, self.after.hash(part)),
            _ => self.of_shown(self.after, part),
        }
    }

    fn of_shown(&self, shown: &Shown, part: &Part) -> Side {
        let Some(value) = shown.parts.get(part) else {
            let removed = shown.removed.get(part).map(|version| (version.writer, version.time));
            return self.side(part, removed, None);
        };
        let side = self.side(part, Some((value.version.writer, value.version.time)), Some(value.hash));
        match &value.merged {
            Some(text) => Side { value: Some(text.as_str().into()), ..side },
            None => side,
        }
    }

    fn side(&self, part: &Part, by: Option<(Writer, crate::Time)>, hash: Option<Hash>) -> Side {
        let json = hash.and_then(|hash| self.values.json(part, hash));
        let value = match part {
            Part::Existence => Some(Value::from(hash.is_some())),
            _ => json.and_then(|json| serde_json::from_str(&json).ok()),
        };
        Side { writer: by.map(|(writer, _)| writer), time: by.map(|(_, time)| time), hash, value }
    }

    fn outcome(&self, part: &Part, source: &Side, target: &Side, result: &Side) -> Outcome {
        let alternative = self.after.alternatives.get(part).map(|other| other.hash);
        let both = [(result.hash, alternative), (alternative, result.hash)].contains(&(source.hash, target.hash));
        if self.after.open.contains(part) {
            Outcome::Open
        } else if both && alternative.is_some() {
            Outcome::BothKept
        } else if (self.after.exists || *part == Part::Existence) && result.hash == source.hash {
            Outcome::SourceKept
        } else if result.hash != target.hash && self.merged(self.after, part) {
            Outcome::Merged
        } else {
            Outcome::TargetKept
        }
    }

    fn merged(&self, shown: &Shown, part: &Part) -> bool {
        shown.parts.get(part).is_some_and(|value| value.merged.is_some())
    }

    /// A change by a writer that knew the chunk, while another had deleted it: kept, and not shown.
    fn under_tombstone(&self) -> bool {
        !self.before.exists && !self.after.exists && self.changed.knew
    }

    /// Of a chunk that comes back only its existence was in question.
    fn revives(&self, part: &Part) -> bool {
        !self.before.exists && self.after.exists && *part != Part::Existence
    }
}
