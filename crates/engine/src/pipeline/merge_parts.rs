//! A batch while it is merged, in parts where it failed as a whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::pipeline::apply::Refused;
use crate::pipeline::apply::merge_context::Outcome;
use crate::pipeline::envelope::Operation;
use crate::pipeline::merge_size::MergeSize;
use crate::ports::Fault;
use crate::runtime::retry::Pauses;

/// The result of merging a batch; operations are named by their index.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) outcome: Outcome,
    /// Operations that the system of record refuses.
    pub(super) refused: Vec<(usize, Fault)>,
    /// Operations whose rows are locked or lack a parent row, or whose merge takes too long.
    pub(super) locked: Vec<(usize, Fault)>,
    /// Operations that are left for the next batch.
    pub(super) rest: BTreeSet<usize>,
    /// Whether an attempt to merge them may have been committed without an answer.
    pub(super) rest_again: bool,
}

/// The operations of a batch after their merge, each kind in its order.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) kept: Vec<Operation>,
    /// Those of `kept` that the system of record refuses, by their index there.
    pub(super) refused: Vec<(usize, Fault)>,
    /// Those that are set aside, and the last reason.
    pub(super) locked: Vec<Operation>,
    pub(super) error: String,
    /// Those that were not merged yet.
    pub(super) rest: Vec<Operation>,
}

impl Merged {
    /// Sorts the operations of the batch by what became of them.
    pub(super) fn sort(self, operations: Vec<Operation>) -> Sorted {
        let Self { refused, locked, rest, rest_again, .. } = self;
        let mut sorted = Sorted { refused, ..Sorted::default() };
        if locked.is_empty() && rest.is_empty() {
            sorted.kept = operations;
            return sorted;
        }
        sorted.error = locked.last().map(|(_, last)| last.to_string()).unwrap_or_default();
        let mut refused: BTreeMap<usize, Fault> = std::mem::take(&mut sorted.refused).into_iter().collect();
        let locked: BTreeSet<usize> = locked.iter().map(|(i, _)| *i).collect();
        for (i, mut operation) in operations.into_iter().enumerate() {
            if locked.contains(&i) {
                sorted.locked.push(operation);
            } else if rest.contains(&i) {
                // If it is committed already, its next merge changes nothing, and must send the stores what they lack.
                operation.repeated |= rest_again;
                sorted.rest.push(operation);
            } else {
                sorted.refused.extend(refused.remove(&i).map(|fault| (sorted.kept.len(), fault)));
                sorted.kept.push(operation);
            }
        }
        sorted
    }
}

/// A batch while it is merged, in parts where it failed as a whole.
pub(super) struct Merging<'a> {
    pub(super) operations: &'a [Operation],
    /// The parts that are still to be merged, the next one last.
    pub(super) open: Vec<Vec<usize>>,
    pub(super) merged: Merged,
    /// Whether an earlier attempt may have been committed without an answer.
    pub(super) again: bool,
    pub(super) pauses: Pauses,
}

impl<'a> Merging<'a> {
    pub(super) fn of(operations: &'a [Operation], pauses: Pauses) -> Self {
        let open = vec![(0..operations.len()).collect()];
        Self { operations, open, merged: Merged::default(), again: false, pauses }
    }

    /// The operations of the next transaction.
    pub(super) fn next(&mut self, size: &MergeSize) -> Option<Vec<usize>> {
        let (part, rest) = size.cut(self.open.pop()?);
        self.open.extend(Some(rest).filter(|rest| !rest.is_empty()));
        Some(part)
    }

    /// Leaves what is still open for the next batch.
    pub(super) fn end_here(&mut self) {
        self.merged.rest.extend(std::mem::take(&mut self.open).into_iter().flatten());
        self.merged.rest_again = self.again;
    }

    /// Notes the operations that cannot be merged; the others of the part are open again.
    pub(super) fn refuse(&mut self, part: &[usize], refused: Vec<Refused>) {
        let places: BTreeSet<usize> = refused.iter().map(|refused| refused.place).collect();
        self.merged.refused.extend(refused.into_iter().map(|refused| (part[refused.place], refused.fault)));
        let rest = part.iter().enumerate().filter(|(place, _)| !places.contains(place));
        let rest: Vec<usize> = rest.map(|(_, operation)| *operation).collect();
        if !rest.is_empty() {
            self.open.push(rest);
        }
    }

    /// Sets the operations of one chunk aside, with those of the chunk that are still open: they come later.
    pub(super) fn set_aside(&mut self, part: &[usize], fault: &Fault) {
        let chunk = |i: usize| self.operations[i].event.chunk_id();
        let Some(locked) = part.first().map(|i| chunk(*i)) else { return };
        let later = self.open.iter().flatten().copied().filter(|i| chunk(*i) == locked);
        let all: Vec<usize> = part.iter().copied().chain(later).collect();
        self.open.iter_mut().for_each(|part| part.retain(|i| chunk(*i) != locked));
        self.open.retain(|part| !part.is_empty());
        self.merged.locked.extend(all.into_iter().map(|i| (i, fault.clone())));
    }
}
