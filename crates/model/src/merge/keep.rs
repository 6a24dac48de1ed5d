//! Selects the values that the record keeps: those that later merges may need and may not find in the row.

use std::collections::{BTreeMap, HashSet};

use crate::{ChangeVersion, Hash, Part, Record, Writer};

use super::effective::effective;
use super::show::Shown;
use super::values::Values;
use super::{Strategies, Strategy};

/// How many of a writer's newest settings of a part keep their values, in addition to the newest effective one.
///
/// An older setting is shown only if all of these turn out to be echoes of settings that arrive later. Its value is
/// then lost, and the part keeps its current value. For vectors the number is smaller: they are large, and vectors of
/// two writers are never equal by chance.
fn kept_values(part: &Part) -> usize {
    if matches!(part, Part::Dense(_) | Part::Sparse) { 4 } else { 8 }
}

/// Stores the needed values in the settings of the record, each value once, in the first setting that has it.
///
/// A strategy that uses the history needs all values, including the one in the row: another program may overwrite the
/// row.
pub(super) fn keep_values(record: &mut Record, shown: &Shown, strategies: &Strategies, values: &Values<'_>) {
    let newest = newest_effective(record);
    let mut stored = HashSet::new();
    for (writer, history) in &mut record.writers {
        for (part, settings) in &mut history.parts {
            if *part == Part::Existence {
                continue;
            }
            let uses_history = strategies.of(part).uses_history();
            let old = settings.len().saturating_sub(kept_values(part));
            for (i, setting) in settings.iter_mut().enumerate() {
                let Some(hash) = setting.shown() else {
                    continue;
                };
                let version = setting.version(*writer);
                let recent = i >= old || newest.get(part).is_some_and(|of| of.get(writer) == Some(&version));
                let needed = uses_history || (recent && !in_row(shown, part, hash));
                if needed && stored.insert((part.clone(), hash)) {
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

/// The newest effective setting of each writer, for the parts that have more settings than kept values.
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
    /// Whether the shown value depends on more than the newest settings.
    pub(super) fn uses_history(self) -> bool {
        matches!(self, Self::TargetWins | Self::Prefer(_) | Self::MergeText | Self::Manual)
    }
}
