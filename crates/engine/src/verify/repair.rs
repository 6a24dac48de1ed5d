//! Repair: corrects what verification found, on the path of every change. A repair is a signal on the bus: read this
//! row, and write it to every store under a new version. A repair writes to no store directly.
//!
//! The row and the record of a chunk decide what is done with it, when the signal is merged and not when the plan was
//! made: a row that changed meanwhile is written as it is then. A plan therefore never goes stale, and executing it
//! twice does no harm. If neither row nor record is left, it is unknown whether the chunk was lost or deleted: it is
//! listed.

use std::time::Duration;

use chunk_sync_model::{Event, SyncVersion, Target, Time};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use crate::absence::restore::examine;
use crate::absence::review::note;
use crate::ingest::publisher::Publisher;
use crate::ingest::row_event;
use crate::ports::{Bus, EntryId, Fault, FaultClass, Ports, Row, Suspicion, Touch, each_row};
use crate::verify::{Finding, Kind, Report};

/// The number of rows that are read, and of signals that are published, at once.
const BATCH: usize = 256;

/// How long the bus may stand still before it counts as having no running service.
const NOBODY: Duration = Duration::from_secs(60);

/// The action for one chunk, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The chunk.
    pub id: Uuid,
    /// The action.
    pub action: Action,
    /// The differences and the reason for the action.
    pub why: String,
    /// The greatest version in any store: a store accepts only a version above it.
    pub above: SyncVersion,
}

/// The action for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Write the row to every store; if the row was changed without being captured, merge that change first.
    Carry,
    /// Delete the chunk in every store.
    Delete,
    /// Note that the row is absent: nothing shows that it was deleted.
    Absent,
    /// Nothing: the operator must decide.
    Undecided,
}

impl Action {
    /// Whether a signal is published for it.
    fn is_published(self) -> bool {
        matches!(self, Self::Carry | Self::Delete)
    }

    /// Its name in plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Carry => "carry",
            Self::Delete => "delete",
            Self::Absent => "absent",
            Self::Undecided => "undecided",
        }
    }
}

/// The action for chunks that have neither row nor record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// List them.
    #[default]
    List,
    /// Delete them; the operator requested it.
    Delete,
}

/// Plans the action for each finding.
#[must_use]
pub fn plan(findings: &[Finding], orphans: Orphans) -> Vec<Step> {
    findings.iter().map(|finding| step(finding, orphans)).collect()
}

fn step(finding: &Finding, orphans: Orphans) -> Step {
    let above = finding.shown.iter().map(|(_, version)| *version).max().unwrap_or_default();
    let (action, reason) = decide(finding, above, orphans);
    Step { id: finding.id, action, why: format!("{}: {reason}", wrong(finding)), above }
}

fn decide(finding: &Finding, above: SyncVersion, orphans: Orphans) -> (Action, String) {
    if finding.differences.iter().any(|difference| difference.kind == Kind::Oversize) {
        return (
            Action::Undecided,
            "the row has more than limits.row_max_bytes: shorten it, or raise the limit".into(),
        );
    }
    match (finding.row.is_some(), finding.lives, orphans) {
        (true, None, _) => (Action::Carry, "the row was never carried".into()),
        (true, Some(_), _) if changed(finding) => {
            (Action::Carry, "the row was changed, and that was not carried".into())
        }
        (true, Some(_), _) if above > finding.version => {
            (Action::Carry, format!("the row decides, under a version above {above} of a store"))
        }
        (true, Some(_), _) => (Action::Carry, "the row decides".into()),
        (false, Some(true), _) => (Action::Absent, "the row is absent, and nothing shows that it was deleted".into()),
        (false, Some(false), _) => {
            let deleted = Time::from_micros(finding.version.signed());
            (Action::Delete, format!("the record has a tombstone of {deleted}"))
        }
        (false, None, Orphans::Delete) => (Action::Delete, "neither row nor record; --orphans delete is set".into()),
        (false, None, Orphans::List) => (Action::Undecided, unknown(above)),
    }
}

/// Whether the row itself differs.
fn changed(finding: &Finding) -> bool {
    finding.differences.iter().any(|difference| difference.store == Target::Postgres)
}

/// The reason for a chunk that has neither row nor record.
fn unknown(shown: SyncVersion) -> String {
    let origin = if shown == SyncVersion::default() {
        "another program wrote it there".to_owned()
    } else {
        format!(
            "this service wrote it (a change of {}), and PostgreSQL has since lost it",
            Time::from_micros(shown.signed())
        )
    };
    format!(
        "neither row nor record, {origin}: publish the chunk or restore its row to keep it, or delete it with --orphans delete"
    )
}

fn wrong(finding: &Finding) -> String {
    let one = |difference: &crate::verify::Difference| match (difference.kind, difference.store) {
        (Kind::Different, Target::Postgres) => "postgres changed".to_owned(),
        (kind, store) => format!("{store} {}", kind.as_str()),
    };
    finding.differences.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Records the suspicion that the comparison raises, before anything is repaired; returns it.
///
/// # Errors
/// The fault of the system of record.
pub async fn suspect_restore(ports: &Ports, report: &Report) -> Result<Option<Suspicion>, Fault> {
    let suspicion = report.restored(ports.floor);
    if let Some(suspicion) = &suspicion {
        ports.records.suspect(suspicion, &ports.fence()).await?;
        warn!(
            reason = suspicion.text,
            "newer versions in the stores are not overwritten, until `chunk-sync init --adopt`"
        );
    }
    Ok(suspicion)
}

/// The signals that were published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Their number.
    pub signals: u64,
    /// The entry of the last one.
    pub last: Option<EntryId>,
}

/// Publishes a signal for every step that is decided. Calls `progress` with the number of signals published so far.
///
/// # Errors
/// The fault of the system of record, also if it takes no writes now, or of the bus; signals that were published before it
/// stay on the bus.
pub async fn publish(
    ports: &Ports,
    publisher: &Publisher,
    steps: &[Step],
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Published, Fault> {
    if !steps.is_empty() {
        ports.records.takes_writes().await?;
    }
    // The name is unique, so that no signal is taken for a repetition of an earlier repair.
    let (view, targets) = (format!("repair {}", Uuid::new_v4()), ports.signalled());
    let absent: Vec<Uuid> = steps.iter().filter(|step| step.action == Action::Absent).map(|step| step.id).collect();
    note(ports, &absent, false).await?;
    let decided: Vec<&Step> = steps.iter().filter(|step| step.action.is_published()).collect();
    // After a restore the stores may be right and the records old: then no newer version is overwritten.
    examine(ports).await?;
    let suspect = ports.records.suspicion().await?.is_some();
    let mut published = Published::default();
    for steps in decided.chunks(BATCH) {
        let ids: Vec<Uuid> = steps.iter().map(|step| step.id).collect();
        let keep = |i: usize, row: Option<Row>| !(suspect && is_foreign(steps[i], row.as_ref()));
        let (kept, now) = (each_row(&*ports.records, &ids, keep).await?, ports.clock.now());
        let steps = steps.iter().zip(kept).filter(|(_, kept)| *kept);
        let events: Vec<_> = steps.map(|(step, _)| signal(step, now, &view, &targets)).collect();
        published.signals += events.len() as u64;
        published.last = publisher.publish_when_there_is_room(events).await?.last().copied().or(published.last);
        progress(published.signals);
    }
    Ok(published)
}

/// Whether a store showed a version above the record's, as the record is now.
fn is_foreign(step: &Step, row: Option<&Row>) -> bool {
    step.above > row.map(|row| row.version).unwrap_or_default()
}

/// The merge reads the row itself, so the kind of the signal decides nothing.
fn signal(step: &Step, now: Time, place: &str, targets: &[Target]) -> Event {
    let touch = if step.action == Action::Delete { Touch::Deleted } else { Touch::Updated };
    row_event::repair(step.id, touch, step.above, now, place, targets)
}

/// Waits until everything published up to `last` is finished. Calls `progress` with the number of entries that wait on
/// the bus.
///
/// # Errors
/// The fault of the bus; or a timeout if the bus stands still for a minute, because then no service is carrying events.
pub async fn until_finished(bus: &dyn Bus, last: EntryId, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Fault> {
    let (mut standing, mut since) = (None, Instant::now());
    loop {
        let depth = bus.depth().await?;
        if depth.oldest.is_none_or(|oldest| oldest > last) {
            return Ok(());
        }
        progress(depth.unread + depth.pending);
        if standing != Some(depth) {
            (standing, since) = (Some(depth), Instant::now());
        }
        if since.elapsed() > NOBODY {
            let message = format!(
                "nothing was finished for {} s; start `chunk-sync run`, or see its log; the signals stay on the bus",
                NOBODY.as_secs()
            );
            return Err(Fault::new(FaultClass::Timeout, "repair", message));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
