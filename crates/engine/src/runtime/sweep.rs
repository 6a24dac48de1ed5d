//! Expires records that no merge has written for the retention time; every merge expires the record that it writes. A
//! walk over all records, a page at a time, so that deleted text leaves the records of idle chunks, too.
//!
//! # What a crash does
//! A page is expired in one transaction and then noted as swept. A crash before the note only repeats the page: what has
//! expired expires no further. A merge that writes a record in between makes it due again.
//!
//! A record whose row awaits a merge is not noted as swept, so each walk examines it.

use chunk_sync_model::merge::expire;
use chunk_sync_model::{Record, Time};
use tracing::debug;
use uuid::Uuid;

use crate::pipeline::apply::external_change::digest;
use crate::ports::{Commit, Committed, CurrentState, Fault, FaultClass, Fence, MergeScope, NoteChange, Records};
use crate::runtime::settings::Settings;

/// Records examined at once, and merged at once: the locks of a page are held for a few milliseconds.
const EXAMINED: usize = 2_000;
const LOCKED: usize = 64;

/// Where the walk stands.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    after: Option<Uuid>,
}

impl Sweep {
    /// Examines the next page of records.
    ///
    /// # Errors
    /// The fault of the system of record; the page is examined again.
    pub(crate) async fn step(
        &mut self,
        records: &dyn Records,
        fence: &Fence,
        settings: &Settings,
        now: Time,
    ) -> Result<(), Fault> {
        let before = settings.expired_before(now);
        let page = records.idle(self.after, before, EXAMINED).await?;
        let mut open: Vec<&[Uuid]> = page.ids.chunks(LOCKED).rev().collect();
        while let Some(ids) = open.pop() {
            match expire_some(records, fence, settings, (ids, before, now)).await {
                // Their rows are too long to be read together.
                Err(fault) if fault.divisible && ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    open.extend([second, first]);
                }
                // Rows that another program locks come with the next walk.
                Err(fault) if matches!(fault.class, FaultClass::Busy | FaultClass::Timeout) && !fault.outdated => {
                    debug!(%fault, "could not expire some idle records");
                }
                ended => ended?,
            }
        }
        self.after = page.last;
        Ok(())
    }
}

async fn expire_some(
    records: &dyn Records,
    fence: &Fence,
    settings: &Settings,
    (ids, before, now): (&[Uuid], Time, Time),
) -> Result<(), Fault> {
    let mut transaction = records.begin(MergeScope { ids, fence, finished: &[] }).await?;
    let (mut examined, mut commits) = (Vec::new(), Vec::new());
    for (id, current) in ids.iter().copied().zip(transaction.current()) {
        if !awaits_a_merge(&current) {
            examined.push(id);
            commits.extend(expired(id, current, settings, (before, now)));
        }
    }
    if commits.is_empty() {
        drop(transaction);
    } else if transaction.commit(commits).await? == Committed::Overtaken {
        // Its rows changed meanwhile: a merge follows.
        return Ok(());
    }
    records.swept(&examined, before).await
}

/// A row that another program wrote, or that cannot be seen, is merged before anything that it may replace expires. The
/// next walk looks at it again: a row that shows again as it was is not merged.
fn awaits_a_merge(current: &CurrentState) -> bool {
    let lives = current.record.as_ref().is_some_and(Record::lives);
    digest(current.state.as_deref()) != current.row && (lives || current.state.is_some())
}

/// The commit that writes the expired record and nothing else.
fn expired(id: Uuid, current: CurrentState, settings: &Settings, (before, now): (Time, Time)) -> Option<Commit> {
    let mut record: Record = current.record?;
    // Records of an older version state no time: they count as recorded before the retention time.
    record.stamp(Time::from_micros(before.micros().min(now.micros())));
    let record = expire(&record, current.state.as_deref(), &settings.strategies, before)?;
    let (state, row, row_changed) = (current.state, current.row, false);
    Some(Commit {
        id,
        record,
        state,
        row_changed,
        row,
        outbox: Vec::new(),
        decided: Vec::new(),
        conflicts: Vec::new(),
        absence: NoteChange::default(),
    })
}
