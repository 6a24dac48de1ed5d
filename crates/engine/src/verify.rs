//! Verification: what the stores really hold, compared chunk by chunk. No ledger is asked; each store is read, its document
//! made again from what is there, and held against the document of the row.
//!
//! All stores are walked side by side in ascending order of id, a page at a time, so memory does not grow with them. What
//! differs is looked at once more at the end, for while the service runs a chunk may be on its way.

mod report;
mod walk;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chunk_sync_model::Target;
use uuid::Uuid;

use crate::metrics;
use crate::ports::{Fault, Row, Seen, Store};
use crate::service::Ports;

pub use report::{Difference, Kind, Report, StoreReport};
use walk::Walk;

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chunks read from a store at once.
    pub page: usize,
    /// How often what differs is looked at again before it counts.
    pub second_looks: u32,
    /// How long to wait before each second look.
    pub pause: Duration,
    /// Differences listed, at most; all are counted.
    pub listed: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { page: 512, second_looks: 1, pause: Duration::from_secs(1), listed: 10_000 }
    }
}

/// Compares the stores. `progress` is told how many ids have been compared.
///
/// # Errors
/// Where a store cannot be read: nothing is known then.
pub async fn verify(ports: &Ports, options: &Options, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Report, Fault> {
    let started = Instant::now();
    let mut findings = first_look(ports, options, progress).await?;
    for _ in 0..options.second_looks {
        if findings.differing.is_empty() {
            break;
        }
        tokio::time::sleep(options.pause).await;
        look_again(ports, options, &mut findings).await?;
    }
    let mut counts = BTreeMap::from([(Target::Postgres, ports.records.counts().await?)]);
    for store in &ports.stores {
        counts.insert(store.target(), store.counts().await?);
    }
    let report = Report::new(&findings, counts, options.listed, started.elapsed());
    metrics::consistency(report.consistency / 100.0);
    Ok(report)
}

/// What is known so far.
#[derive(Debug, Default)]
struct Findings {
    /// Ids in any store or living record.
    chunks: u64,
    /// What differs, by id.
    differing: BTreeMap<Uuid, Vec<Difference>>,
}

async fn first_look(
    ports: &Ports,
    options: &Options,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Findings, Fault> {
    let mut findings = Findings::default();
    let mut walk = Walk::new(ports, options.page);
    while let Some(place) = walk.next().await? {
        if !place.is_there() {
            continue;
        }
        findings.chunks += 1;
        let differences = place.differences(&ports.stores);
        if !differences.is_empty() {
            findings.differing.insert(place.id, differences);
        }
        if findings.chunks.is_multiple_of(256) {
            progress(findings.chunks);
        }
    }
    progress(findings.chunks);
    Ok(findings)
}

async fn look_again(ports: &Ports, options: &Options, findings: &mut Findings) -> Result<(), Fault> {
    let ids: Vec<Uuid> = findings.differing.keys().copied().collect();
    for ids in ids.chunks(options.page) {
        let rows = ports.records.rows_of(ids).await?;
        let mut seen: Vec<Vec<Option<Seen>>> = Vec::with_capacity(ports.stores.len());
        for store in &ports.stores {
            seen.push(store.read(ids).await?);
        }
        for (i, (id, row)) in ids.iter().zip(rows).enumerate() {
            let place = Place { id: *id, row, seen: seen.iter_mut().map(|store| store[i].take()).collect() };
            let differences = place.differences(&ports.stores);
            if !place.is_there() {
                findings.chunks -= 1;
            }
            if differences.is_empty() {
                findings.differing.remove(id);
            } else {
                findings.differing.insert(*id, differences);
            }
        }
    }
    Ok(())
}

/// One id, and what each store has under it.
#[derive(Debug)]
struct Place {
    id: Uuid,
    row: Option<Row>,
    /// In the order of the stores.
    seen: Vec<Option<Seen>>,
}

impl Place {
    /// Whether the id stands in any store or living record: a mere tombstone does not count.
    fn is_there(&self) -> bool {
        let row = self.row.as_ref().is_some_and(|row| row.state.is_some() || row.lives == Some(true));
        row || self.seen.iter().any(Option::is_some)
    }

    fn differences(&self, stores: &[std::sync::Arc<dyn Store>]) -> Vec<Difference> {
        let Some((row, state)) = self.row.as_ref().and_then(|row| Some((row, row.state.as_ref()?))) else {
            return self.without_row(stores);
        };
        let differences = stores.iter().zip(&self.seen).filter_map(|(store, seen)| {
            let Some(seen) = seen else {
                return Some(Difference::new(self.id, store.target(), Kind::Missing));
            };
            let fields = seen.fingerprint.differing(&store.expect(state));
            let kind = if seen.version < row.version { Kind::Stale } else { Kind::Different };
            (!fields.is_empty()).then(|| Difference { fields, ..Difference::new(self.id, store.target(), kind) })
        });
        differences.collect()
    }

    fn without_row(&self, stores: &[std::sync::Arc<dyn Store>]) -> Vec<Difference> {
        let lives = self.row.as_ref().is_some_and(|row| row.lives == Some(true));
        let row = lives.then(|| Difference::new(self.id, Target::Postgres, Kind::Missing));
        // Of a chunk whose row is lost it is the row that is wrong, not what the other stores still have.
        let others = stores.iter().zip(&self.seen).filter(|(_, seen)| seen.is_some() && !lives);
        row.into_iter()
            .chain(others.map(|(store, _)| Difference::new(self.id, store.target(), Kind::Orphaned)))
            .collect()
    }
}
