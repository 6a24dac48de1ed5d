//! What a comparison shows as a whole, before anything is repaired: a store that lost most of its chunks, and a system of
//! record that was restored to an earlier state. Pure.

use chunk_sync_model::{SyncVersion, Target};

use super::compare::Finding;
use super::report::Report;
use crate::ports::Suspicion;

/// Fewer chunks prove nothing.
const LEAST: u64 = 10;

impl Report {
    /// The stores that lack more than half of the chunks.
    #[must_use]
    pub fn emptied(&self) -> Vec<Target> {
        let lacks_most = |missing: u64| self.chunks >= LEAST && missing > self.chunks / 2;
        let others = self.stores.iter().filter(|(target, _)| **target != Target::Postgres);
        others.filter(|(_, store)| lacks_most(store.missing)).map(|(target, _)| *target).collect()
    }

    /// The suspicion that the system of record was restored: at least ten chunks, and at least 1 % of them, have a newer
    /// version in a store than in their record. A version below `floor` was assigned before the operator adopted the
    /// restored table, so it reveals nothing new.
    #[must_use]
    pub fn restored(&self, floor: SyncVersion) -> Option<Suspicion> {
        let newest = |shown: &[(Target, SyncVersion)]| shown.iter().map(|(_, version)| *version).max();
        let recorded = self.findings.iter().filter(|finding| finding.lives.is_some());
        let known = |finding: &&Finding| Some(finding.version.max(floor));
        let newer = recorded.filter(|finding| newest(&finding.shown) > known(finding)).count() as u64;
        let many = newer >= LEAST && newer >= self.chunks / 100;
        many.then(|| Suspicion {
            text: format!(
                "{newer} chunks have a newer version in a store than in their record: the database was restored"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::verify::report::StoreReport;
    use crate::verify::tally::Tally;
    use crate::verify::{Finding, Options};

    fn report(chunks: u64, missing: u64, newer: u64) -> Report {
        let finding = |_| Finding {
            id: Uuid::nil(),
            row: None,
            lives: Some(true),
            version: SyncVersion::new(7),
            shown: vec![(Target::Qdrant, SyncVersion::new(8))],
            differences: Vec::new(),
        };
        let store = StoreReport { missing, ..StoreReport::default() };
        Report {
            chunks,
            stores: BTreeMap::from([(Target::Qdrant, store.clone()), (Target::Postgres, store)]),
            findings: (0..newer).map(finding).collect(),
            ..Report::new(Tally::default(), &Options::default(), Duration::ZERO)
        }
    }

    #[test]
    fn a_store_that_lacks_most_of_its_chunks_is_emptied() {
        for (chunks, missing, emptied) in [(9, 9, false), (10, 5, false), (10, 6, true), (10_000, 10_000, true)] {
            assert_eq!(report(chunks, missing, 0).emptied() == [Target::Qdrant], emptied, "{missing} of {chunks}");
        }
    }

    #[test]
    fn many_newer_versions_in_the_stores_reveal_a_restore() {
        for (chunks, newer, restored) in [(20, 9, false), (20, 10, true), (5_000, 49, false), (5_000, 50, true)] {
            let report = report(chunks, 0, newer);
            assert_eq!(report.restored(SyncVersion::new(9)), None, "adopted since");
            assert_eq!(report.restored(SyncVersion::new(5)).is_some(), restored, "{newer} of {chunks}");
        }
    }
}
