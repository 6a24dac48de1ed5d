//! After a gap: a backfill of the rows that are not as they were last seen, then a verification of every store, because
//! a store may hold states that the system of record has lost.
//!
//! # What a crash does
//! The gap stays recorded until both are done; the next session starts again with the backfill. What is carried or
//! repaired twice changes nothing.

use tracing::{info, warn};

use super::Captor;
use crate::ingest::backfill::backfill_after_gap;
use crate::ports::{Bus, EntryId, Fault, FaultClass, Gap};
use crate::runtime::retry::retry_always;
use crate::verify::repair::{self, Orphans, suspect_restore, until_finished};
use crate::verify::{Options, verify};

/// Chunks read from a store at once, and compared per second.
const PAGE: usize = 128;
const RATE: u32 = 5_000;

/// The maximal number of findings repaired after one comparison; the scrubber finds the others.
const KEPT: usize = 10_000;

/// Carries whatever a gap may have hidden: rows that are not as they were last seen, and differences of the stores.
pub(super) async fn close(captor: &Captor, gap: Gap, epoch: &str) -> Result<(), Fault> {
    warn!(%gap, "changes may have been missed; carrying rows that differ from what was last seen");
    let settings = &captor.settings.worker;
    let carry = || backfill_after_gap(&captor.ports, &captor.publisher);
    let done = retry_always(settings, "backfill after a gap", carry).await?;
    finished(&*captor.ports.bus, done.last).await?;
    info!(rows = done.rows, carried = done.published, "backfilled after a gap; verifying the stores");
    retry_always(settings, "verify after a gap", || verified(captor)).await?;
    if captor.ports.bus.epoch().await? != epoch {
        return Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost entries"));
    }
    Ok(())
}

/// Compares every store with the rows, and publishes what repairs them.
async fn verified(captor: &Captor) -> Result<(), Fault> {
    captor.ports.records.takes_writes().await?;
    let options = Options { page: PAGE, rate: Some(RATE), listed: 0, kept: KEPT, ..Options::default() };
    let report = verify(&captor.ports, &options, &|_| {}).await?;
    // A gap may be due to a restore: then the stores may be right.
    suspect_restore(&captor.ports, &report).await?;
    let steps = repair::plan(&report.findings, Orphans::List);
    let published = repair::publish(&captor.ports, &captor.publisher, &steps, &|_| {}).await?;
    finished(&*captor.ports.bus, published.last).await?;
    info!(chunks = report.chunks, differing = report.differing, "verified the stores after a gap");
    Ok(())
}

/// Waits until everything published up to `last` is finished, however long the worker stands still.
async fn finished(bus: &dyn Bus, last: Option<EntryId>) -> Result<(), Fault> {
    let Some(last) = last else { return Ok(()) };
    loop {
        match until_finished(bus, last, &|_| {}).await {
            Err(fault) if fault.class == FaultClass::Timeout => {}
            done => return done,
        }
    }
}
