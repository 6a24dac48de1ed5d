//! Verification: compares what the stores hold, chunk by chunk. It uses no bookkeeping: it reads each store, rebuilds
//! the document from the stored content, and compares it with the document of the row.
//!
//! It reads all stores side by side in ascending order of id, page by page, so the memory that it uses does not grow
//! with them. Chunks that differ are read again until they stand still, because while the service runs a chunk may be
//! on its way.

mod absence;
mod alarm;
mod compare;
mod difference;
pub mod fill;
mod options;
mod recheck;
mod refused;
pub mod repair;
mod report;
pub mod scrub;
mod tally;
mod walk;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chunk_sync_model::Target;

use crate::ports::{Counts, Fault, Ports};
use crate::runtime::rate_limit::Pace;

pub use absence::{Absence, absence};
pub use compare::Finding;
pub use difference::{Difference, Kind};
pub use options::Options;
pub use recheck::{Rechecked, look_again, look_at};
pub use report::{Report, StoreReport};

use recheck::recheck;
use tally::Tally;
use walk::Walk;

/// The maximal number of differing chunks that are read again together.
const SUSPECTS: usize = 1 << 16;

/// Compares the stores. Calls `progress` with the number of ids compared so far.
///
/// # Errors
/// A store cannot be read; nothing is known about the chunks then.
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
            tally.judge(recheck(ports, options, std::mem::take(&mut suspects)).await?);
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
    tally.judge(recheck(ports, options, suspects).await?);
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
