//! Detects the conflicts that a change caused, with all four sides, and those that it closed.

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
    let detector = Detector { record, changed, before, after, strategies, values };
    changed.parts.iter().filter_map(|(part, hash)| detector.conflict_on(part, *hash)).collect()
}

/// The parts with a conflict that was open before the change and is not any more; and the parts that an operator
/// resolved, whether or not they were open.
pub(super) fn decided(changed: &Changed, before: &Shown, after: &Shown) -> Vec<Part> {
    let by_operator = changed.parts.keys().filter(|_| changed.version.writer == Writer::Operator);
    let parts: BTreeSet<&Part> = before.open.iter().chain(by_operator).collect();
    parts.into_iter().filter(|part| !after.open.contains(*part)).cloned().collect()
}

struct Detector<'a> {
    record: &'a Record,
    changed: &'a Changed,
    before: &'a Shown,
    after: &'a Shown,
    strategies: &'a Strategies,
    values: &'a Values<'a>,
}

impl Detector<'_> {
    fn conflict_on(&self, part: &Part, source: Option<Hash>) -> Option<Conflict> {
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

    /// The value that the source started from; `None` if the change cannot conflict: an echo, or a change based on the
    /// shown state (a direct write or a resolution).
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
        let base = settings.iter().rfind(|c| c.version < version && c.setting.shown() == own.base);
        let by = base.filter(|_| own.base.is_some()).map(|base| (base.version.writer, base.version.time));
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

    /// Whether the writer knew the chunk while another writer had deleted it. The change is recorded but not shown.
    fn under_tombstone(&self) -> bool {
        !self.before.exists && !self.after.exists && self.changed.knew
    }

    /// Whether the change revives the chunk. Then only [`Part::Existence`] can be in conflict.
    fn revives(&self, part: &Part) -> bool {
        !self.before.exists && self.after.exists && *part != Part::Existence
    }
}
