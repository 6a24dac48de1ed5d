//! Chunks without a row in a repair: deleted if the operator requested it, else reviewed like every pass does.

use anyhow::anyhow;
use chunk_sync_engine::absence::{Review, force, review};
use chunk_sync_engine::ports::{EntryId, Suspicion, max_deletes};
use chunk_sync_engine::repair::{Action, Step, suspect_restore};
use chunk_sync_engine::verify::Report;
use uuid::Uuid;

use crate::cli::{Failure, output};
use crate::config::Config;
use crate::wiring::Wired;

/// Returns the entry of the last signal that was published.
///
/// # Errors
/// [`Failure::Unable`] if the operator requested deletions and the table is not the one on record; otherwise the fault of
/// the system of record or the bus.
pub(super) async fn review_all(
    config: &Config,
    wired: &Wired,
    steps: &[Step],
    delete: bool,
) -> Result<Option<EntryId>, Failure> {
    let at = wired.ports.bus.now().await?;
    if !delete {
        let reviewed = review(&wired.ports, &wired.publisher, config.settings.max_deletes, at).await?;
        report(&reviewed, config.settings.max_deletes);
        return Ok(reviewed.last);
    }
    // An orphan without a record is no living chunk, and is not noted.
    let ids: Vec<Uuid> = steps.iter().filter(|step| step.action == Action::Delete).map(|step| step.id).collect();
    let forced = force(&wired.ports, &wired.publisher, &ids, at).await?;
    match forced.suspended {
        Some(suspicion) => {
            Err(Failure::Unable(anyhow!("{}: nothing is deleted; {}", suspicion.text, Suspicion::REMEDY)))
        }
        None => Ok(forced.last),
    }
}

/// Reports what should be known before anything is repaired.
pub(super) async fn alarm(wired: &Wired, report: &Report) -> Result<(), Failure> {
    for store in report.emptied() {
        let missing = report.stores.get(&store).map(|store| store.missing).unwrap_or_default();
        output::note(format_args!(
            "{store} lacks {} of {}; refilling it",
            output::number(missing),
            output::count(report.chunks, "chunk")
        ));
    }
    if let Some(suspicion) = suspect_restore(&wired.ports, report).await? {
        output::note(format_args!(
            "{}: newer versions are not overwritten until `chunk-sync init --adopt`",
            suspicion.text
        ));
    }
    Ok(())
}

/// Prints why confirmed candidates are not deleted.
fn report(reviewed: &Review, configured: Option<u64>) {
    if let Some(held) = &reviewed.held {
        output::note(format_args!(
            "{} have no row any more, and {} of the last 24 hours count; the limit is {}: none is deleted. Find out why, \
             then run `chunk-sync verify --repair --absent delete`",
            output::count(held.confirmed, "chunk"),
            output::count(held.recent, "deletion"),
            max_deletes(configured, held.living)
        ));
    }
    if let Some(suspicion) = &reviewed.suspended {
        output::note(format_args!("{}: no chunk is deleted because its row is absent", suspicion.text));
    }
}
