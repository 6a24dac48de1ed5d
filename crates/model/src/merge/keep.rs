//! Which values the record keeps: those that the row does not show and that may yet be asked for.

use std::collections::{BTreeMap, HashSet};

use crate::{ChangeVersion, Hash, Part, Record, Writer};

use super::effective::effective;
use super::show::Shown;
use super::values::Values;
use super::{Strategies, Strategy};

/// Of how many of a writer's newest settings of a part the values are kept; beside that of the newest which took effect.
///
/// An older one would have to show only if all of these turned out to be echoes of what arrives later still. Then its value
/// is gone, and what is held stays. Vectors are large, and two writers' are never the same by chance.
fn kept_values(part: &Part) -> usize {
    if matches!(part, Part::Dense(_) | Part::Sparse) { 4 } else { 8 }
}

/// Gives the settings their values where the record needs them; each value once, at the first setting that has it.
///
/// Under a strategy that looks back every value is needed, that of the row too: somebody may write over the row.
pub(super) fn keep_values(record: &mut Record, shown: &Shown, strategies: &Strategies, values: &Values<'_>) {
    let newest = newest_effective(record);
    let mut given = HashSet::new();
    for (writer, history) in &mut record.writers {
        for (part, settings) in &mut history.parts {
            if *part == Part::Existence {
                continue;
            }
            let looks_back = strategies.of(part).looks_back();
            let old = settings.len().saturating_sub(kept_values(part));
            for (i, setting) in settings.iter_mut().enumerate() {
                let Some(hash) = setting.hash else {
                    continue;
                };
                let version = setting.version(*writer);
                let asked_for = i >= old || newest.get(part).is_some_and(|of| of.get(writer) == Some(&version));
                let wanted = looks_back || (asked_for && !in_row(shown, part, hash));
                if wanted && given.insert((part.clone(), hash)) {
                    setting.value = values.json(part, hash);
                }
            }
        }
    }
}

fn in_row(shown: &Shown, part: &Part, hash: Hash) -> bool {
    let first = shown.parts.get(part).is_some_and(|shown| shown.hash == hash && shown.merged.is_none());
    first || shown.alternative().is_some_and(|(other, shown)| other == part && shown.hash == hash)
}

/// Of the parts with more settings than values are kept: the newest setting of each writer that took effect.
fn newest_effective(record: &Record) -> BTreeMap<Part, BTreeMap<Writer, ChangeVersion>> {
    let parts = record.writers.values().flat_map(|history| &history.parts);
    let long = parts.filter(|(part, settings)| **part != Part::Existence && settings.len() > kept_values(part));
    long.map(|(part, _)| {
        let newest = effective(record, part, record.newest_delete())
            .into_iter()
            .map(|c| (c.version.writer, c.version))
            .collect();
        (part.clone(), newest)
    })
    .collect()
}

impl Strategy {
    /// Whether what it shows depends on more than the newest settings.
    fn looks_back(self) -> bool {
        matches!(self, Self::TargetWins | Self::Prefer(_) | Self::MergeText | Self::Manual)
    }
}
