//! The watch list: chunks whose writes to a store may arrive late. A network can hold a write back until the chunk has
//! been deleted there; a store that removes deleted documents has then forgotten the version, and the write restores the
//! chunk. So these chunks are listed, and read back every 30 s for an hour: what a late write did is visible for at most
//! a minute within that hour. A later one is found by the scrubber.
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

use std::time::Duration;

use chunk_sync_model::SyncVersion;
use tracing::{info, warn};

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
            for store in &self.ports.stores {
                let target = store.target();
                match self.look(&**store).await {
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
    async fn look(&self, store: &dyn Projection) -> Result<u64, Fault> {
        let (target, records) = (store.target(), &self.ports.records);
        let (mut after, mut late) = (None, 0);
        loop {
            let ids = records.watched(target, after, PAGE).await?;
            if ids.is_empty() {
                return Ok(late);
            }
            // First the store, then the records: what is recorded in between is not taken for overtaken.
            let seen = store.fetch_documents(&ids).await?;
            let overtaken = each_row(&**records, &ids, |i, row| {
                Some(PendingWrite { id: ids[i], target, version: due(seen[i].as_ref(), &row?)? })
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

/// The version of a deletion that the store must be sent once more: it holds a chunk that the record says is deleted.
///
/// A living chunk is never due. Its version in the store keeps older writes out, and a newer write may be under way: in
/// the outbox it would outlive an event that ends the process and goes to the dead letters.
fn due(seen: Option<&StoredDocument>, row: &Row) -> Option<SyncVersion> {
    (row.lives == Some(false) && seen.is_some()).then_some(row.version)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
    fn only_a_deleted_chunk_that_the_store_holds_is_due() {
        assert_eq!(due(Some(&seen(5)), &row(Some(false))), Some(SyncVersion::new(7)));
        assert_eq!(due(None, &row(Some(false))), None);
        assert_eq!(due(Some(&seen(5)), &row(Some(true))), None, "it lives");
        assert_eq!(due(None, &row(Some(true))), None, "it lives, and its write may be under way");
        assert_eq!(due(Some(&seen(5)), &row(None)), None, "no record");
    }
}
