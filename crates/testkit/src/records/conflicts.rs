//! Contract of the system of record about the conflicts that merges detect.

use chunk_sync_engine::conflicts;
use chunk_sync_engine::ports::{
    CONFLICT_PAGE_BYTES, ConflictFilter, ConflictPage, ConflictRecord, CurrentState, NewConflict, Resolution,
    ResolvedPart,
};
use chunk_sync_model::merge::{Conflict, Kind, Outcome, Side, Strategy};
use chunk_sync_model::{Hash, Part, SyncVersion, Time, Writer};
use serde_json::json;
use uuid::Uuid;

use super::Port;
use super::transactions::counted_up;
use crate::Fixture;
use crate::merging::Merging as _;

fn side(writer: Writer, value: &str) -> Side {
    let hash = Hash::of_bytes(value.as_bytes());
    Side { writer: Some(writer), time: Some(at(1)), hash: Some(hash), value: Some(json!(value)) }
}

fn at(seconds: i64) -> Time {
    Time::from_micros(1_800_000_000_000_000 + seconds * 1_000_000 + 7)
}

/// A conflict of claude with cognee on that part, some seconds after a fixed time.
fn noted(part: &str, strategy: Strategy, seconds: i64) -> NewConflict {
    let part: Part = part.parse().unwrap();
    let outcome = if strategy == Strategy::Manual { Outcome::Open } else { Outcome::SourceKept };
    let (source, target) = (side(Writer::Claude, "was \u{1F980} said\n"), side(Writer::Cognee, "was \"held\"\t"));
    let (base, result) = (Side::default(), source.clone());
    let conflict = Conflict { kind: Kind::of(&part), part, strategy, outcome, base, source, target, result };
    NewConflict { at: at(seconds), sync_version: SyncVersion::new((1 << 53) - 2), closed: None, conflict }
}

fn decided(part: &str, by: Writer, seconds: i64) -> ResolvedPart {
    ResolvedPart { part: part.parse().unwrap(), closed: Resolution { at: at(seconds), by } }
}

async fn enter(records: &Port, id: Uuid, decided: Vec<ResolvedPart>, noted: Vec<NewConflict>) {
    let decide = |held: Vec<CurrentState>| {
        let mut commits = counted_up(&[id], held);
        (commits[0].decided, commits[0].conflicts) = (decided.clone(), noted.clone());
        commits
    };
    records.merge(&[id], &decide).await.unwrap();
}

async fn all(records: &Port) -> Vec<ConflictRecord> {
    records.conflicts(&ConflictFilter::default(), usize::MAX).await.unwrap().entries
}

/// Equal to the last character, and the entry listed first has the greater number.
pub async fn conflicts_are_recorded_with_the_row_as_they_were_met<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let (records, ids) = (fixture.port(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
    let mut second = noted("graph.relationships.calls.[\"a.b\",\"c\"]", Strategy::Prefer(Writer::Claude), 2);
    second.conflict.base = Side { value: None, ..side(Writer::Hybrid, "not kept") };
    second.closed = Some(Resolution { at: at(3), by: Writer::Operator });
    let entered = [
        vec![noted("content", Strategy::LastWriteWins, 1), second],
        vec![noted("metadata.ti tle", Strategy::Manual, 1)],
    ];
    let decide = |held: Vec<CurrentState>| {
        let mut commits = counted_up(&ids, held);
        commits.iter_mut().zip(&entered).for_each(|(commit, noted)| commit.conflicts.clone_from(noted));
        commits
    };
    records.merge(&ids, &decide).await.unwrap();
    let entered: Vec<_> = [(ids[0], &entered[0][0]), (ids[0], &entered[0][1]), (ids[1], &entered[1][0])].into();
    drop(records);
    for _ in 0..2 {
        let found = all(&*fixture.port()).await;
        assert!(found.is_sorted_by(|one, next| one.id > next.id));
        assert_eq!(found.iter().rev().map(|entry| (entry.chunk, &entry.noted)).collect::<Vec<_>>(), entered);
        for entry in &found {
            assert_eq!(fixture.port().conflict(entry.id).await.unwrap().as_ref(), Some(entry));
        }
        assert_eq!(fixture.port().conflict(found[0].id + 1).await.unwrap(), None);
        fixture.reopen().await;
    }
}

pub async fn a_merge_that_did_not_happen_records_no_conflict<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::from_u128(1));
    for round in 0..12 {
        let before = all(&*records).await.len();
        let conflicts: Vec<NewConflict> = (0..20).map(|_| noted("content", Strategy::LastWriteWins, round)).collect();
        let limit = std::time::Duration::from_micros(50 << round);
        let entering = enter(&*records, id, Vec::new(), conflicts);
        let answered = tokio::time::timeout(limit, entering).await.is_ok();
        // Read under the lock of the chunk, so that a merge in progress has ended.
        let held = super::held(&*records, id).await;
        let merges = held.record.map_or(0, |record| record.version.get());
        let found = all(&*records).await.len();
        assert_eq!(found as u64, 20 * merges, "given up after {limit:?}");
        assert!(!answered || found == before + 20);
    }
}

pub async fn conflicts_are_listed_by_what_is_asked_for<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, mut count) = (fixture.port(), 0);
    for (chunk, part) in [(1, "content"), (2, "metadata.title"), (1, "embeddings.dense.gte"), (3, "content")] {
        for strategy in [Strategy::LastWriteWins, Strategy::Manual, Strategy::Prefer(Writer::Cognee)] {
            count += 1;
            let mut noted = noted(part, strategy, count);
            if count % 3 == 0 {
                noted.conflict.target.writer = None;
            }
            if count % 4 == 0 {
                noted.conflict.source.writer = Some(Writer::Hybrid);
            }
            enter(&*records, Uuid::from_u128(chunk), Vec::new(), vec![noted]).await;
        }
    }
    enter(&*records, Uuid::from_u128(1), vec![decided("content", Writer::Operator, 99)], Vec::new()).await;
    let all = all(&*records).await;
    let none = ConflictFilter::default;
    let filters = [
        ConflictFilter { chunk: Some(Uuid::from_u128(1)), ..none() },
        ConflictFilter { kind: Some(Kind::Content), ..none() },
        ConflictFilter { strategy: Some(Strategy::Prefer(Writer::Cognee)), ..none() },
        ConflictFilter { outcome: Some(Outcome::Open), ..none() },
        ConflictFilter { writer: Some(Writer::Hybrid), ..none() },
        ConflictFilter { writer: Some(Writer::Cognee), ..none() },
        ConflictFilter { open: true, ..none() },
        ConflictFilter { since: Some(at(5)), ..none() },
        ConflictFilter { below: Some(all[6].id), ..none() },
        ConflictFilter { chunk: Some(Uuid::from_u128(1)), open: true, kind: Some(Kind::Embeddings), ..none() },
        ConflictFilter { chunk: Some(Uuid::from_u128(9)), ..none() },
    ];
    for filter in filters {
        let wanted: Vec<_> = all.iter().filter(|entry| filter.fits(entry)).cloned().collect();
        assert!(wanted.len() < all.len());
        let whole = ConflictPage { entries: wanted.clone(), more: false };
        assert_eq!(records.conflicts(&filter, usize::MAX).await.unwrap(), whole, "{filter:?}");
        let two = ConflictPage { entries: wanted[..wanted.len().min(2)].to_vec(), more: wanted.len() > 2 };
        assert_eq!(records.conflicts(&filter, 2).await.unwrap(), two, "{filter:?}");
    }
    assert_eq!(records.conflicts(&none(), 0).await.unwrap().entries, []);
}

pub async fn a_page_of_conflicts_is_bounded_in_bytes<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::from_u128(1));
    let count = 12;
    for seconds in 0..count {
        let mut noted = noted("content", Strategy::LastWriteWins, seconds);
        noted.conflict.source.value = Some(json!("x".repeat(CONFLICT_PAGE_BYTES / 8)));
        enter(&*records, id, Vec::new(), vec![noted]).await;
    }
    let (mut filter, mut found) = (ConflictFilter::default(), Vec::new());
    loop {
        let page = records.conflicts(&filter, usize::MAX).await.unwrap();
        let bytes: usize = page.entries.iter().map(|entry| entry.noted.conflict.to_json().len()).sum();
        assert!(bytes < CONFLICT_PAGE_BYTES * 9 / 8 + 8192, "{bytes} bytes in {} entries", page.entries.len());
        filter.below = page.next();
        found.extend(page.entries.iter().map(|entry| entry.noted.at));
        if filter.below.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..count).rev().map(at).collect::<Vec<_>>());
}

pub async fn what_is_decided_closes_what_is_open_of_that_part<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id, other) = (fixture.port(), Uuid::from_u128(1), Uuid::from_u128(2));
    let open = |part| noted(part, Strategy::Manual, 1);
    let told = noted("content", Strategy::LastWriteWins, 1);
    enter(&*records, id, Vec::new(), vec![open("content"), told, open("summary"), open("content")]).await;
    enter(&*records, other, Vec::new(), vec![open("content")]).await;
    assert_eq!(records.open_conflicts().await.unwrap(), 4);
    // A conflict detected in the same merge comes after the decision of that merge.
    let by_operator = vec![decided("content", Writer::Operator, 2), decided("chunk_type", Writer::Operator, 2)];
    enter(&*records, id, by_operator, vec![open("content")]).await;
    let closed = |entries: &[ConflictRecord]| -> Vec<_> {
        entries.iter().rev().map(|entry| entry.noted.closed.map(|closed| (closed.at, closed.by))).collect()
    };
    let first = Some((at(2), Writer::Operator));
    assert_eq!(closed(&all(&*records).await), [first, None, None, first, None, None]);
    assert_eq!(records.open_conflicts().await.unwrap(), 3);
    // A closed conflict keeps its closing time and writer.
    enter(&*records, id, vec![decided("content", Writer::Claude, 5)], Vec::new()).await;
    let second = Some((at(5), Writer::Claude));
    assert_eq!(closed(&all(&*records).await), [first, None, None, first, None, second]);
    assert_eq!(records.open_conflicts().await.unwrap(), 2);
}

pub async fn settled_conflicts_are_forgotten_oldest_first_and_open_ones_never<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::from_u128(1));
    let told = |seconds| noted("content", Strategy::LastWriteWins, seconds);
    let open = |part, seconds| noted(part, Strategy::Manual, seconds);
    enter(&*records, id, Vec::new(), vec![told(4), told(1), open("content", 0), open("summary", 0), told(2), told(3)])
        .await;
    // Closed late: its age counts from the closing time.
    enter(&*records, id, vec![decided("summary", Writer::Operator, 5)], Vec::new()).await;
    let left = || async {
        let entries = all(&*records).await;
        entries.iter().map(|entry| entry.noted.settled_at().map(|at| at.micros() / 1_000_000 % 100)).collect::<Vec<_>>()
    };
    assert_eq!(records.forget_conflicts(at(4), 2).await.unwrap(), 2);
    assert_eq!(left().await, [Some(3), Some(5), None, Some(4)]);
    assert_eq!(records.forget_conflicts(at(4), 2).await.unwrap(), 1, "settled before that time, not at it");
    assert_eq!(records.forget_conflicts(at(99), 100).await.unwrap(), 2);
    assert_eq!((left().await, records.open_conflicts().await.unwrap()), (vec![None], 1));
    let newest = all(&*records).await[0].id;
    enter(&*records, id, Vec::new(), vec![told(9)]).await;
    assert!(all(&*records).await[0].id > newest, "no number comes twice");
}

pub async fn the_record_is_cut_to_a_number_of_bytes<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::from_u128(1));
    let mut entries: Vec<_> = (1..=8).map(|at| noted("content", Strategy::LastWriteWins, at)).collect();
    entries.insert(0, noted("content", Strategy::Manual, 0));
    enter(&*records, id, Vec::new(), entries).await;
    let bytes = records.conflict_bytes(0).await.unwrap();
    assert!((9 * 100..9 * 3_000).contains(&bytes), "{bytes} bytes of nine entries");
    assert!(records.conflict_bytes(bytes).await.unwrap() >= bytes);
    let left = || async { all(&*records).await.iter().map(|entry| entry.noted.settled_at()).collect::<Vec<_>>() };
    // Two at a time, until at most six of nine are left.
    assert_eq!(conflicts::cut(&*records, bytes * 7 / 10, 2).await.unwrap(), 4);
    assert_eq!(left().await, [Some(at(8)), Some(at(7)), Some(at(6)), Some(at(5)), None]);
    assert_eq!(conflicts::cut(&*records, 0, 3).await.unwrap(), 4);
    assert_eq!(left().await, [None], "an open conflict stays, whatever the bound");
    assert_eq!(conflicts::cut(&*records, 0, 3).await.unwrap(), 0);
}

pub async fn hundreds_of_conflicts_are_recorded_and_closed_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let ids: Vec<Uuid> = (0..300).map(Uuid::from_u128).collect();
    let merge = async |decided: &[ResolvedPart], noted: &[NewConflict]| {
        let decide = |held: Vec<CurrentState>| {
            let with = |mut commit: chunk_sync_engine::ports::Commit| {
                (commit.decided, commit.conflicts) = (decided.to_vec(), noted.to_vec());
                commit
            };
            counted_up(&ids, held).into_iter().map(with).collect()
        };
        records.merge(&ids, &decide).await.unwrap();
    };
    merge(&[], &[noted("content", Strategy::Manual, 1), noted("summary", Strategy::Manual, 1)]).await;
    assert_eq!(records.open_conflicts().await.unwrap(), 600);
    merge(&[decided("content", Writer::Operator, 2), decided("summary", Writer::Operator, 2)], &[]).await;
    assert_eq!(records.open_conflicts().await.unwrap(), 0);
    assert_eq!(all(&*records).await.len(), 600);
    assert_eq!(records.forget_conflicts(at(9), 1000).await.unwrap(), 600);
}
