//! The review of all noted chunks: rows that show again are merged, candidates are confirmed by the second look, and
//! confirmed candidates are deleted if the limit allows all of them.
//!
//! # What a crash does
//! Every step is durable on its own and may be repeated. After a crash between the approval and its signals, the next
//! review publishes the signals: an approved chunk is deleted by any merge that finds its row still absent, and by none
//! that finds the row.

use chunk_sync_model::{SyncVersion, Time};
use tracing::{info, warn};
use uuid::Uuid;

use super::look::{Look, look};
use crate::ingest::publisher::Publisher;
use crate::ingest::row_event;
use crate::ports::{
    AbsenceCause, AbsentRow, Approval, Deletions, EntryId, Fault, Ports, RowPage, Suspicion, Touch, Verdict, each_row,
};

/// The number of notes that are read, and of signals that are published, at once.
const BATCH: usize = 256;

/// The result of a review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Rows that show again.
    pub shown: u64,
    /// Candidates that the second look confirmed.
    pub confirmed: u64,
    /// Chunks whose deletion is under way.
    pub deleted: u64,
    /// The numbers that exceed the limit, if they do: no candidate is deleted.
    pub held: Option<Deletions>,
    /// Why no candidate is deleted, if the table is not the one on record.
    pub suspended: Option<Suspicion>,
    /// The entry of the last signal.
    pub last: Option<EntryId>,
}

/// Notes living chunks whose row a comparison did not find. `missed` states that a deletion may have been missed: the
/// comparison follows a gap in capture. Where rows are not captured, every deletion may have been missed. They are noted at
/// the time of the bus: a clock of this process that is set right in between would bring the second look forward.
///
/// # Errors
/// The fault of the bus or the system of record; then nothing or a part is noted.
pub async fn note(ports: &Ports, ids: &[Uuid], missed: bool) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    let at = ports.bus.now().await?;
    let missed = missed || !ports.records.is_captured();
    let cause = if missed { AbsenceCause::Missed } else { AbsenceCause::Compared };
    for ids in ids.chunks(BATCH) {
        ports.records.note_absent(ids, cause, at).await?;
    }
    Ok(())
}

/// Reviews all notes at the time `at` of the bus; `max_deletes` is the configured limit.
///
/// # Errors
/// The fault of the system of record or the bus; what was done before it stays, and the next review continues.
pub async fn review(ports: &Ports, publisher: &Publisher, max_deletes: Option<u64>, at: Time) -> Result<Review, Fault> {
    let mut review = Review::default();
    look_at_all(ports, publisher, at, &mut review).await?;
    decide(ports, Approval { at, max_deletes, forced: false }, &mut review).await?;
    carry_out(ports, publisher, at, &mut review).await?;
    Ok(review)
}

/// Deletes these chunks if their rows are still absent, whatever the limit: the operator decided it. Nothing is deleted
/// while the table is not the one on record.
///
/// # Errors
/// The fault of the system of record or the bus.
pub async fn force(ports: &Ports, publisher: &Publisher, ids: &[Uuid], at: Time) -> Result<Review, Fault> {
    for ids in ids.chunks(BATCH) {
        ports.records.note_absent(ids, AbsenceCause::Missed, at).await?;
        ports.records.confirm_absent(ids).await?;
    }
    let mut review = Review::default();
    decide(ports, Approval { at, max_deletes: None, forced: true }, &mut review).await?;
    carry_out(ports, publisher, at, &mut review).await?;
    Ok(review)
}

/// The chunks that a captured TRUNCATE deletes: all that have no row any more, or none if they exceed the limit.
///
/// # Errors
/// The fault of the system of record.
pub async fn truncated(ports: &Ports, max_deletes: Option<u64>, at: Time) -> Result<Vec<Uuid>, Fault> {
    let (mut gone, mut after) = (Vec::new(), None);
    loop {
        let RowPage { rows: page, is_last } = ports.records.rows(after, BATCH).await?;
        after = page.last().map(|row| row.id).or(after);
        let absent = page.iter().filter(|row| row.is_absent());
        let ids: Vec<Uuid> = absent.map(|row| row.id).collect();
        ports.records.note_absent(&ids, AbsenceCause::Truncated, at).await?;
        ports.records.confirm_absent(&ids).await?;
        gone.extend(ids);
        if is_last {
            break;
        }
    }
    let mut review = Review::default();
    decide(ports, Approval { at, max_deletes, forced: false }, &mut review).await?;
    if review.held.is_some() || review.suspended.is_some() {
        warn!(chunks = gone.len(), "the table was truncated; the deletions are held");
        gone.clear();
    }
    Ok(gone)
}

async fn look_at_all(ports: &Ports, publisher: &Publisher, at: Time, review: &mut Review) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let page = ports.records.absent_rows(after, BATCH).await?;
        let ended = page.len() < BATCH;
        after = page.last().map(|noted| noted.id).or(after);
        look_at(ports, publisher, &page, at, review).await?;
        if ended {
            return Ok(());
        }
    }
}

async fn look_at(
    ports: &Ports,
    publisher: &Publisher,
    page: &[AbsentRow],
    at: Time,
    review: &mut Review,
) -> Result<(), Fault> {
    if page.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = page.iter().map(|noted| noted.id).collect();
    let looks = each_row(&*ports.records, &ids, |i, row| (ids[i], look(&page[i], row.as_ref(), at))).await?;
    let of = |wanted: Look| looks.iter().filter(|(_, look)| *look == wanted).map(|(id, _)| *id).collect::<Vec<_>>();
    ports.records.forget_absent(&of(Look::Forget)).await?;
    let confirmed = of(Look::Confirm);
    ports.records.confirm_absent(&confirmed).await?;
    review.confirmed += confirmed.len() as u64;
    let shown = of(Look::ShownAgain);
    ports.records.absent_rows_were_seen(&shown, at).await?;
    review.shown += shown.len() as u64;
    // The name is unique, so that no signal is taken for a repetition of an earlier one.
    let (place, targets) = (format!("shown again {}", Uuid::new_v4()), ports.signalled());
    let signal = |id: &Uuid| row_event::signal(*id, Touch::Updated, at, &place, &targets);
    publish(publisher, shown.iter().map(signal).collect(), review).await
}

async fn decide(ports: &Ports, approval: Approval, review: &mut Review) -> Result<(), Fault> {
    match ports.records.approve(approval).await? {
        Verdict::Approved(Deletions { confirmed: 0, .. }) => {}
        Verdict::Approved(deletions) => info!(?deletions, "deleting chunks whose rows were deleted unseen"),
        Verdict::OverLimit(deletions) => {
            warn!(
                ?deletions,
                "more rows are absent than may be deleted; none is: `verify --repair --absent delete` deletes them"
            );
            review.held = Some(deletions);
        }
        Verdict::Suspended(suspicion) => review.suspended = Some(suspicion),
    }
    Ok(())
}

/// Publishes a signal for every approved chunk. The merge deletes it if its row is still absent.
async fn carry_out(ports: &Ports, publisher: &Publisher, at: Time, review: &mut Review) -> Result<(), Fault> {
    let (place, targets) = (format!("absent {}", Uuid::new_v4()), ports.signalled());
    let mut after = None;
    loop {
        let page = ports.records.absent_rows(after, BATCH).await?;
        let ended = page.len() < BATCH;
        after = page.last().map(|noted| noted.id).or(after);
        let approved = page.iter().filter(|noted| noted.approved);
        let signal = |noted: &AbsentRow| {
            row_event::repair(noted.id, Touch::Deleted, SyncVersion::default(), at, &place, &targets)
        };
        let events: Vec<_> = approved.map(signal).collect();
        review.deleted += events.len() as u64;
        publish(publisher, events, review).await?;
        if ended {
            return Ok(());
        }
    }
}

async fn publish(
    publisher: &Publisher,
    events: Vec<chunk_sync_model::Event>,
    review: &mut Review,
) -> Result<(), Fault> {
    if !events.is_empty() {
        review.last = publisher.publish_when_there_is_room(events).await?.last().copied().or(review.last);
    }
    Ok(())
}
