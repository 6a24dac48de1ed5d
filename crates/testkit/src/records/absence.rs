//! Contract of the notes on absent rows: they are written with the merge, and the limit counts over all processes.

use chunk_sync_engine::ports::{
    AbsenceCause, Approval, Commit, CurrentState, Deletions, NoteChange, Verdict, max_deletes,
};
use chunk_sync_model::{Record, Time};
use uuid::Uuid;

use super::{Port, event, merged};
use crate::Fixture;
use crate::merging::{Merging as _, commit};
use crate::states::states;

const HOUR: i64 = 3600 * 1_000_000;

fn at(hours: i64) -> Time {
    Time::from_micros(1_800_000_000_000_000 + hours * HOUR)
}

fn approval(hours: i64) -> Approval {
    Approval { at: at(hours), max_deletes: None, forced: false }
}

/// Records this many living chunks, without rows.
async fn living(records: &Port, count: usize) -> Vec<Uuid> {
    let state = states(1).remove(0);
    let record = merged(CurrentState::default(), &event(&state)).record;
    let ids: Vec<Uuid> = (1..=count as u128).map(Uuid::from_u128).collect();
    for ids in ids.chunks(500) {
        let one = |id: &Uuid| Commit { row_changed: false, ..commit(*id, record.clone(), None) };
        records.merge(ids, &|_| ids.iter().map(one).collect()).await.unwrap();
    }
    ids
}

/// Notes the chunks as candidates, and confirms them.
async fn candidates(records: &Port, ids: &[Uuid], hours: i64) {
    records.note_absent(ids, AbsenceCause::Missed, at(hours)).await.unwrap();
    records.confirm_absent(ids).await.unwrap();
}

/// Merges the approved deletions of these chunks.
async fn delete(records: &Port, ids: &[Uuid], hours: i64) {
    let one = |id: &Uuid| Commit {
        absence: NoteChange::Deleted(at(hours)),
        row_changed: false,
        ..commit(*id, Record::default(), None)
    };
    records.merge(ids, &|_| ids.iter().map(one).collect()).await.unwrap();
}

fn over(verdict: Verdict) -> Deletions {
    match verdict {
        Verdict::OverLimit(deletions) => deletions,
        other => panic!("not over the limit: {other:?}"),
    }
}

/// One pass uses a half of the limit, a second process the rest, and nothing more is deleted within 24 hours.
async fn the_limit_holds<F: Fixture<Port = Port>>(chunks: usize) {
    let fixture = F::fresh().await;
    let (first, second) = (fixture.port(), fixture.port());
    let ids = living(&*first, chunks).await;
    let half = usize::try_from(max_deletes(None, chunks as u64) / 2).unwrap();
    candidates(&*first, &ids[..half], 0).await;
    let approved = first.approve(approval(0)).await.unwrap();
    assert_eq!(
        approved,
        Verdict::Approved(Deletions { confirmed: half as u64, recent: 0, living: approved_living(&approved) })
    );
    delete(&*first, &ids[..half], 0).await;
    let left = (chunks - half) as u64;
    let rest = usize::try_from(max_deletes(None, left)).unwrap() - half;
    let (rest, more) = ids[half..].split_at(rest);
    candidates(&*second, rest, 12).await;
    candidates(&*second, &more[..1], 12).await;
    let held = over(second.approve(approval(12)).await.unwrap());
    assert_eq!((held.confirmed, held.recent, held.living), (rest.len() as u64 + 1, half as u64, left));
    assert!(second.absent_rows(None, chunks).await.unwrap().iter().all(|noted| !noted.approved), "none is deleted");
    // Exactly the limit is approved, by one of two processes that decide at the same time.
    second.forget_absent(&more[..1]).await.unwrap();
    let (a, b) = tokio::join!(first.approve(approval(13)), second.approve(approval(13)));
    let of = |verdict: Verdict| if let Verdict::Approved(deletions) = verdict { deletions.confirmed } else { 0 };
    assert_eq!(of(a.unwrap()) + of(b.unwrap()), rest.len() as u64);
    candidates(&*first, &more[..1], 14).await;
    assert_eq!(
        over(first.approve(approval(14)).await.unwrap()).confirmed,
        1,
        "approved ones count before they are merged"
    );
    delete(&*second, rest, 14).await;
    over(first.approve(approval(23)).await.unwrap());
    let forced = Approval { forced: true, ..approval(23) };
    assert!(matches!(first.approve(forced).await.unwrap(), Verdict::Approved(_)), "the operator decides");
    delete(&*first, &more[..1], 23).await;
    let counts = second.absence_counts(at(23)).await.unwrap();
    assert_eq!((counts.noted, counts.deletions.recent), (0, (half + rest.len() + 1) as u64));
    assert_eq!(second.absence_counts(at(48)).await.unwrap().deletions.recent, 0, "24 hours later nothing counts");
}

fn approved_living(verdict: &Verdict) -> u64 {
    if let Verdict::Approved(deletions) = verdict { deletions.living } else { 0 }
}

pub async fn of_three_chunks_none_may_be_deleted_by_comparison<F: Fixture<Port = Port>>() {
    the_limit_holds::<F>(3).await;
}

pub async fn of_fifty_chunks_five_may_be_deleted_over_all_passes_and_processes<F: Fixture<Port = Port>>() {
    the_limit_holds::<F>(50).await;
}

pub async fn of_ten_thousand_chunks_a_hundred_may_be_deleted_over_all_passes_and_processes<F: Fixture<Port = Port>>() {
    the_limit_holds::<F>(10_000).await;
}

pub async fn a_note_is_written_and_removed_with_the_merge<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let records = fixture.port();
    let ids = living(&*records, 3).await;
    let [newest, later] = [at(1), at(2)];
    for newest in [newest, later] {
        let noted = |id: &Uuid, held: CurrentState| Commit {
            absence: NoteChange::Note { newest, at: newest },
            row_changed: false,
            ..commit(*id, held.record.unwrap(), None)
        };
        let decide = |held: Vec<CurrentState>| ids.iter().zip(held).map(|(id, held)| noted(id, held)).collect();
        records.merge(&ids, &decide).await.unwrap();
    }
    drop(records);
    fixture.reopen().await;
    let records = fixture.port();
    let rows = records.absent_rows(None, 2).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(records.absent_rows(Some(ids[1]), 9).await.unwrap().len(), 1);
    assert!(rows.iter().all(|row| row.cause == AbsenceCause::Merge && row.noted_at == newest && !row.confirmed));
    let note = super::held(&*records, ids[0]).await.absence.unwrap();
    assert_eq!((note.newest_change, note.approved), (Some(newest), false), "the first note stays");
    // What no comparison noted is no candidate, whatever is confirmed.
    records.confirm_absent(&ids).await.unwrap();
    assert!(matches!(records.approve(approval(3)).await.unwrap(), Verdict::Approved(Deletions { confirmed: 0, .. })));
    let removed =
        |id: &Uuid| Commit { absence: NoteChange::Remove, row_changed: false, ..commit(*id, Record::default(), None) };
    records.merge(&ids[..1], &|_| vec![removed(&ids[0])]).await.unwrap();
    assert!(super::held(&*records, ids[0]).await.absence.is_none());
    assert_eq!(records.absence_counts(at(3)).await.unwrap().noted, 2);
}

pub async fn a_candidate_replaces_another_note_and_keeps_its_own_time<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let ids = living(&*records, 1).await;
    let unknown = [Uuid::from_u128(77)];
    records.note_absent(&unknown, AbsenceCause::Missed, at(0)).await.unwrap();
    for (hours, cause) in [
        (0, AbsenceCause::Compared),
        (1, AbsenceCause::Missed),
        (2, AbsenceCause::Truncated),
        (3, AbsenceCause::Compared),
    ] {
        records.note_absent(&ids, cause, at(hours)).await.unwrap();
    }
    let noted = records.absent_rows(None, 9).await.unwrap();
    assert_eq!(noted.len(), 1, "a chunk without a record does not live");
    assert_eq!((noted[0].cause, noted[0].noted_at), (AbsenceCause::Missed, at(1)));
}

pub async fn a_row_that_was_seen_takes_confirmation_and_approval_back<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let ids = living(&*records, 50).await;
    candidates(&*records, &ids[..2], 0).await;
    records.approve(approval(0)).await.unwrap();
    candidates(&*records, &ids[2..4], 1).await;
    records.absent_rows_were_seen(&[ids[0], ids[2]], at(2)).await.unwrap();
    let noted = records.absent_rows(None, 9).await.unwrap();
    let found: Vec<_> = noted.iter().map(|noted| (noted.id, noted.noted_at, noted.confirmed, noted.approved)).collect();
    let expected = [
        (ids[0], at(2), false, false),
        (ids[1], at(0), true, true),
        (ids[2], at(2), false, false),
        (ids[3], at(1), true, false),
    ];
    assert_eq!(found, expected);
    assert!(!super::held(&*records, ids[0]).await.absence.unwrap().approved);
    // Another comparison that does not find it starts from the later time.
    candidates(&*records, &ids[..1], 3).await;
    assert_eq!(records.absent_rows(None, 1).await.unwrap()[0].noted_at, at(2));
}
