//! Verification: what the stores really hold, compared chunk by chunk. No ledger is asked; each store is read, its document
//! made again from what is there, and held against the document of the row.
//!
//! All stores are walked side by side in ascending order of id, a page at a time, so memory does not grow with them. What
//! differs is looked at again until it stands still, for while the service runs a chunk may be on its way.

mod absence;
mod place;
mod report;
mod settle;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chunk_sync_model::Target;
use uuid::Uuid;

use crate::pace::Pace;
use crate::ports::{Counts, Fault};
use crate::service::Ports;

pub use absence::{Absence, absence};
pub use place::Finding;
pub use report::{Difference, Kind, Report, StoreReport};
pub use settle::{Settled, look_again, look_at};

use place::Place;
use settle::settle;
use walk::Walk;

/// Chunks that differ and are looked at again at once, at most.
const SUSPECTS: usize = 1 << 16;

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chunks read from a store at once.
    pub page: usize,
    /// Chunks compared a second, at most.
    pub rate: Option<u32>,
    /// How long a difference must stand still before it counts.
    pub still: Duration,
    /// How long to wait for what is under way before a difference that stands still counts nevertheless, and before a chunk
    /// that does not stand still is given up.
    pub patience: Duration,
    /// Differences listed, at most; all are counted.
    pub listed: usize,
    /// Findings kept for a repair, at most; all are counted.
    pub kept: usize,
    /// Only chunks of this project, by their rows.
    pub project: Option<Uuid>,
    /// Only chunks of this data set, by their rows.
    pub dataset: Option<Uuid>,
    /// Only chunks above this id: where a verification that was stopped goes on.
    pub after: Option<Uuid>,
    /// Set by whoever wants it to stop where it is, and to judge what it found so far.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page: 512,
            rate: None,
            still: Duration::from_millis(700),
            patience: Duration::from_secs(15),
            listed: 10_000,
            kept: usize::MAX,
            project: None,
            dataset: None,
            after: None,
            stop: Arc::default(),
        }
    }
}

impl Options {
    /// Whether chunks are left out.
    fn is_partial(&self) -> bool {
        self.project.is_some() || self.dataset.is_some() || self.after.is_some()
    }

    /// Whether the place counts: it stands in a store or living record, and its row is among those asked for.
    fn concerns(&self, place: &Place) -> bool {
        let organization = place.row.as_ref().and_then(|row| Some(&row.state.as_ref()?.chunk.organization));
        let of = |wanted: Option<Uuid>, is: Option<Uuid>| wanted.is_none() || wanted == is;
        place.is_there()
            && of(self.project, organization.and_then(|o| o.project_id))
            && of(self.dataset, organization.and_then(|o| o.dataset_id))
    }
}

/// Compares the stores. `progress` is told how many ids have been compared.
///
/// # Errors
/// Where a store cannot be read: nothing is known then.
pub async fn verify(ports: &Ports, options: &Options, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Report, Fault> {
    let started = Instant::now();
    let (mut tally, mut suspects, mut pace) = (Tally::default(), Vec::new(), Pace::new(options.rate));
    let mut walk = Walk::new(ports, options.page, options.after);
    while let Some(place) = walk.next().await? {
        let id = place.id;
        if !options.concerns(&place) {
            continue;
        }
        tally.count(&place, ports);
        suspects.extend(place.finding(&ports.stores));
        if suspects.len() >= SUSPECTS {
            tally.judge(settle(ports, options, std::mem::take(&mut suspects)).await?);
        }
        if tally.chunks.is_multiple_of(256) {
            progress(tally.chunks);
        }
        pace.step().await;
        if options.stop.load(Ordering::Relaxed) {
            tally.stopped_after = Some(id);
            break;
        }
    }
    progress(tally.chunks);
    tally.judge(settle(ports, options, suspects).await?);
    if !options.is_partial() && tally.stopped_after.is_none() {
        tally.counts = counts(ports).await?;
    }
    Ok(Report::new(tally, options, started.elapsed()))
}

async fn counts(ports: &Ports) -> Result<BTreeMap<Target, Counts>, Fault> {
    let mut counts = BTreeMap::from([(Target::Postgres, ports.records.counts().await?)]);
    for store in &ports.stores {
        counts.insert(store.target(), store.counts().await?);
    }
    Ok(counts)
}

/// What is known so far.
#[derive(Debug, Default)]
struct Tally {
    /// The last id that was compared, where it was told to stop there.
    stopped_after: Option<Uuid>,
    /// Ids in any store or living record.
    chunks: u64,
    /// Those that changed whenever they were looked at.
    unsettled: u64,
    /// Rows whose embedding was made for an older content.
    stale_embeddings: u64,
    counts: BTreeMap<Target, Counts>,
    findings: Vec<Finding>,
}

impl Tally {
    fn count(&mut self, place: &Place, ports: &Ports) {
        self.chunks += 1;
        let state = place.row.as_ref().and_then(|row| row.state.as_ref());
        self.stale_embeddings += u64::from(state.is_some_and(|state| state.embedding_stale));
        let row = (Target::Postgres, state.is_some());
        let others = ports.stores.iter().zip(&place.seen).map(|(store, seen)| (store.target(), seen.is_some()));
        for (target, there) in std::iter::once(row).chain(others) {
            self.counts.entry(target).or_default().chunks += u64::from(there);
        }
    }

    fn judge(&mut self, settled: Settled) {
        self.chunks -= settled.vanished;
        self.unsettled += settled.unsettled;
        self.findings.extend(settled.findings);
    }
}
