//! The watch list: chunks whose writes to a store may arrive late. A network can hold a write back until the chunk has
//! been deleted there; a store that removes deleted documents has then forgotten the version, and the write restores the
//! chunk. Where a server does not compare versions itself, a late write also replaces a newer state. So these chunks are
//! listed, and read back every 30 s for an hour: what a late write did is visible for at most a minute within that hour.
//! A later one is found by the scrubber.
//!
//! # What is listed, and when
//! - A write without an answer, before the store writer reports any result of its batch.
//! - At each start and takeover the outbox, and each operation that may have been carried before, before its entry is
//!   acknowledged: an earlier process may have sent its writes.
//!
//! # What a crash does
//! - Before the listing: the entry is not acknowledged, or the outbox has the write, and the next start lists it.
//! - After it: the list is in the system of record, and the next process reads it back.
//! - Between a look and the outbox entry that it leads to: the next look finds the same.

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_sync_model::SyncVersion;
use tracing::{info, warn};

use crate::pipeline::held_versions::HeldVersions;
use crate::ports::{Fault, PendingWrite, Ports, Projection, Records, Row, StoredDocument, Watched, each_row};
use crate::runtime::metrics;
use crate::runtime::term::Term;

/// How long a chunk stays listed.
pub(crate) const WATCHED_FOR: Duration = Duration::from_secs(3_600);

/// How often listed chunks are read back.
const LOOK: Duration = Duration::from_secs(30);

/// Chunks read back at once.
const PAGE: usize = 64;

/// Lists the chunks; nothing to list is no call.
pub(crate) async fn list(records: &dyn Records, watched: &[Watched]) -> Result<(), Fault> {
    if watched.is_empty() { Ok(()) } else { records.watch(watched, WATCHED_FOR).await }
}

/// Reads back the listed chunks while the term lasts.
pub(crate) struct Watch {
    pub(crate) ports: Ports,
    pub(crate) term: Term,
    /// What each store has shown in this term, in the order of the ports.
    pub(crate) held: Vec<HeldVersions>,
}

impl Watch {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.term.holds() {
                continue;
            }
            for (store, held) in self.ports.stores.iter().zip(&self.held) {
                let target = store.target();
                match self.look(&**store, held).await {
                    Ok(0) => {}
                    Ok(late) => {
                        warn!(%target, chunks = late, "late writes reached the store; writing the recorded states");
                    }
                    Err(fault) => info!(%target, %fault, "could not look for late writes; retrying in 30 s"),
                }
            }
            if let Err(fault) = self.ports.records.unwatch().await {
                info!(%fault, "could not shorten the list of chunks with late writes; retrying in 30 s");
            }
        }
    }

    /// Compares the listed chunks of one store with the records and puts those that differ into the outbox; returns their
    /// number.
    async fn look(&self, store: &dyn Projection, held: &HeldVersions) -> Result<u64, Fault> {
        let (target, records) = (store.target(), &self.ports.records);
        let (mut after, mut late, mut listed) = (None, 0, BTreeMap::new());
        held.look_begins();
        loop {
            let ids = records.watched(target, after, PAGE).await?;
            if ids.is_empty() {
                held.look_ended(listed);
                return Ok(late);
            }
            // First what the store has shown, then the store, then the records: what is written or recorded in between
            // is not taken for overtaken.
            let held = held.of(&ids);
            let seen = store.fetch_documents(&ids).await?;
            let overtaken = each_row(&**records, &ids, |i, row| {
                let (row, seen) = (row?, seen[i].as_ref());
                let whole = seen.filter(|seen| seen.version == row.version).map(|seen| seen.version);
                listed.extend(held[i].max(whole).map(|version| (ids[i], version)));
                Some(PendingWrite { id: ids[i], target, version: due(seen, &row, held[i])? })
            });
            let overtaken: Vec<PendingWrite> = overtaken.await?.into_iter().flatten().collect();
            if !overtaken.is_empty() {
                records.enqueue(&overtaken).await?;
                late += overtaken.len() as u64;
                metrics::late_writes(target, overtaken.len() as u64);
            }
            after = ids.last().copied();
        }
    }
}

/// The version that the store must be sent once more, because a late write has replaced it there.
///
/// - A deletion: the store holds a chunk that the record says is deleted.
/// - The recorded state of a living chunk: the store has shown it, and shows an older one now.
///
/// A living chunk whose recorded state the store has not shown is never due: its write may be under way. In the outbox
/// it would outlive an event that ends the process and goes to the dead letters. Nor is a chunk that the store lacks,
/// or shows without a version: no write of this service does that.
fn due(seen: Option<&StoredDocument>, row: &Row, held: Option<SyncVersion>) -> Option<SyncVersion> {
    let seen = seen?.version;
    let late = match row.lives {
        Some(false) => true,
        Some(true) => held == Some(row.version) && SyncVersion::default() < seen && seen < row.version,
        None => false,
    };
    late.then_some(row.version)
}

#[cfg(test)]
mod tests {
    use chunk_sync_model::document::{Document, VectorDocument};
    use serde_json::Map;
    use uuid::Uuid;

    use super::*;

    fn row(lives: Option<bool>) -> Row {
        Row { id: Uuid::nil(), version: SyncVersion::new(7), lives, seen: None, state: None, oversize: false }
    }

    fn seen(version: u64) -> StoredDocument {
        let document = VectorDocument { dense: BTreeMap::new(), sparse: None, payload: Map::new() };
        StoredDocument { id: Uuid::nil(), version: SyncVersion::new(version), document: Document::Vectors(document) }
    }

    #[test]
    fn a_deleted_chunk_that_the_store_holds_is_due() {
        let version = SyncVersion::new(7);
        for held in [None, Some(SyncVersion::new(5)), Some(version)] {
            assert_eq!(due(Some(&seen(5)), &row(Some(false)), held), Some(version));
            assert_eq!(due(None, &row(Some(false)), held), None);
            assert_eq!(due(Some(&seen(5)), &row(None), held), None, "no record");
        }
    }

    #[test]
    fn a_living_chunk_is_due_if_the_store_has_gone_back_from_the_recorded_state() {
        let (alive, held) = (row(Some(true)), |version| Some(SyncVersion::new(version)));
        assert_eq!(due(Some(&seen(5)), &alive, held(7)), held(7));
        assert_eq!(due(Some(&seen(5)), &alive, None), None, "its write may be under way");
        assert_eq!(due(Some(&seen(5)), &alive, held(6)), None, "gone back, and a newer write may be under way");
        assert_eq!(due(Some(&seen(7)), &alive, held(7)), None, "as it should be");
        assert_eq!(due(Some(&seen(9)), &alive, held(7)), None, "newer than the record: of another program");
        assert_eq!(due(Some(&seen(0)), &alive, held(7)), None, "of another program");
        assert_eq!(due(None, &alive, held(7)), None, "removed by another program");
    }
}
