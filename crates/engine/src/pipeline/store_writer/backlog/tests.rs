#![allow(clippy::unwrap_used)]

use chunk_sync_model::State;
use serde_json::json;

use super::*;
use crate::ports::FaultClass;

type Answer = oneshot::Receiver<Vec<WriteResult>>;

/// A write of chunk `id` under `version`; a store that holds `since` or newer may keep its vectors.
fn write(id: u128, version: u64, since: u64) -> Write {
    let chunk = json!({
        "id": Uuid::from_u128(id), "system_origin": "claude", "content": format!("version {version}"),
        "chunk_type": "text", "source": {"type": "api"},
        "location": {"start_char": 0, "end_char": 1, "chunk_index": 0}, "organization": {},
        "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"},
    });
    let state = State { chunk: serde_json::from_value(chunk).unwrap(), embedding_stale: false };
    Write {
        id: Uuid::from_u128(id),
        version: SyncVersion::new(version),
        state: Some(Arc::new(state)),
        vectors_since: SyncVersion::new(since),
    }
}

fn deletion(id: u128, version: u64) -> Write {
    Write { state: None, ..write(id, version, version) }
}

fn add(backlog: &mut Backlog, writes: Vec<Write>) -> Answer {
    let (done, answer) = oneshot::channel();
    backlog.add(WriteBatch { writes: writes.into(), enqueued: false, from_outbox: false, done });
    answer
}

fn sent(due: &[Due]) -> Vec<(u128, u64)> {
    due.iter().map(|due| (due.write.id.as_u128(), due.write.version.get())).collect()
}

fn results(answer: &mut Answer) -> Option<Vec<&'static str>> {
    let results = answer.try_recv().ok()?;
    let name = |result: &WriteResult| match result {
        WriteResult::Durable => "durable",
        WriteResult::Pending => "pending",
        WriteResult::Refused(_) => "refused",
    };
    Some(results.iter().map(name).collect())
}

fn refusal() -> WriteResult {
    WriteResult::Refused(Fault::new(FaultClass::Rejected, "test", "too long"))
}

fn take(backlog: &mut Backlog) -> Vec<Due> {
    backlog.take(usize::MAX, usize::MAX)
}

#[test]
fn waiting_batches_become_one_call_and_each_gets_its_answer() {
    let mut backlog = Backlog::default();
    let mut first = add(&mut backlog, vec![write(1, 10, 10), write(2, 11, 11)]);
    let mut second = add(&mut backlog, vec![write(2, 20, 11), write(3, 21, 21)]);
    let due = take(&mut backlog);
    assert_eq!(sent(&due), [(1, 10), (2, 20), (3, 21)]);
    for due in &due[..2] {
        backlog.answer(due, &WriteResult::Durable);
    }
    assert_eq!(results(&mut first), Some(vec!["durable", "durable"]));
    assert_eq!(results(&mut second), None, "one of its writes has no answer yet");
    backlog.answer(&due[2], &WriteResult::Pending);
    assert_eq!(results(&mut second), Some(vec!["durable", "pending"]));
    assert!(backlog.len() == 0);
}

#[test]
fn a_folded_write_keeps_the_vectors_that_none_of_them_changed() {
    let since = |older: Write, newer: Write| fold(older, &newer).vectors_since.get();
    assert_eq!(since(write(1, 10, 5), write(1, 20, 10)), 5, "neither changed them since 5");
    assert_eq!(since(write(1, 10, 10), write(1, 20, 10)), 10, "the older one changed them");
    assert_eq!(since(write(1, 10, 5), write(1, 20, 20)), 20, "the newer one changed them");
    assert_eq!(since(write(1, 10, 5), write(1, 20, 15)), 15, "a version between them, sent by another way");
    assert_eq!(since(write(1, 10, 5), write(1, 20, 3)), 3, "unchanged for longer than the older one knows");
    assert_eq!(since(deletion(1, 10), write(1, 20, 10)), 10, "nothing is known of the time before a deletion");
    assert_eq!(fold(write(1, 20, 20), &write(1, 10, 10)).version.get(), 20, "the newest wins");
}

#[test]
fn the_refusal_of_the_newest_does_not_condemn_the_older_ones() {
    let mut backlog = Backlog::default();
    let mut answers: Vec<Answer> = (1..=3).map(|v| add(&mut backlog, vec![write(1, v * 10, v * 10)])).collect();
    let due = take(&mut backlog);
    assert_eq!(sent(&due), [(1, 30)]);
    backlog.answer(&due[0], &refusal());
    assert_eq!(results(&mut answers[2]), Some(vec!["refused"]));
    let mut late = add(&mut backlog, vec![write(1, 40, 40)]);
    for (version, result, name) in [(10, WriteResult::Durable, "durable"), (20, refusal(), "refused")] {
        let due = take(&mut backlog);
        assert_eq!(sent(&due), [(1, version)], "one by one, in their order");
        backlog.answer(&due[0], &result);
        assert_eq!(results(&mut answers[version as usize / 10 - 1]), Some(vec![name]));
    }
    let due = take(&mut backlog);
    assert_eq!(sent(&due), [(1, 40)]);
    backlog.answer(&due[0], &WriteResult::Durable);
    assert_eq!(results(&mut late), Some(vec!["durable"]));
    assert!(backlog.len() == 0);
}

#[test]
fn what_arrives_during_a_call_waits_for_the_next() {
    let mut backlog = Backlog::default();
    let mut first = add(&mut backlog, vec![write(1, 10, 10)]);
    let due = take(&mut backlog);
    let mut second = add(&mut backlog, vec![write(1, 20, 20)]);
    backlog.answer(&due[0], &WriteResult::Durable);
    assert_eq!(results(&mut first), Some(vec!["durable"]));
    assert_eq!(results(&mut second), None, "the store has an older state");
    assert_eq!(sent(&take(&mut backlog)), [(1, 20)]);
}

#[test]
fn a_failed_write_waits_alone_and_is_folded_with_what_arrives() {
    let mut backlog = Backlog::default();
    let mut first = add(&mut backlog, vec![write(1, 10, 10)]);
    let due = take(&mut backlog);
    backlog.failed(&due[0]);
    let mut second = add(&mut backlog, vec![write(1, 20, 20), write(2, 21, 21)]);
    let other = take(&mut backlog);
    assert_eq!(sent(&other), [(2, 21)], "another chunk does not wait for it");
    backlog.retry_failed();
    let due = take(&mut backlog);
    assert_eq!(sent(&due), [(1, 20)]);
    assert!(due[0].failing_since.is_some(), "the patience counts from the first attempt");
    backlog.answer(&due[0], &WriteResult::Durable);
    backlog.answer(&other[0], &WriteResult::Durable);
    assert_eq!(results(&mut first), Some(vec!["durable"]));
    assert_eq!(results(&mut second), Some(vec!["durable", "durable"]));
}

#[test]
fn a_call_has_a_number_and_a_size_and_at_least_one_write() {
    let mut backlog = Backlog::default();
    let _answer = add(&mut backlog, (1..=5).map(|id| write(id, 10, 10)).collect());
    let one = write(1, 10, 10).weight();
    assert_eq!(backlog.take(2, usize::MAX).len(), 2);
    assert_eq!(backlog.take(usize::MAX, one / 2).len(), 1);
    assert_eq!(backlog.take(usize::MAX, 2 * one + one / 2).len(), 2);
    assert!(!backlog.has_fresh());
}

#[test]
fn an_empty_batch_is_answered_at_once() {
    let mut backlog = Backlog::default();
    assert_eq!(results(&mut add(&mut backlog, Vec::new())), Some(Vec::new()));
    assert!(backlog.len() == 0);
}
