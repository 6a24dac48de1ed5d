//! A store that refuses requests as a whole: what it can never take fails alone, whichever way it comes.

use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, FaultClass, Outbox as _, Write};
use chunk_sync_model::Target;
use chunk_sync_testkit::states::{states, write};

use super::world::{World, event, events, until};

fn writes(count: usize) -> Vec<Write> {
    states(count).iter().map(|state| write(state, 1)).collect()
}

/// The classes of the faults; `None` where a write is durable.
fn classes(answers: &[Applied]) -> Vec<Option<FaultClass>> {
    let class = |answer: &Applied| match answer {
        Applied::Failed(fault) => Some(fault.class),
        Applied::Written | Applied::Skipped => None,
    };
    answers.iter().map(class).collect()
}

#[tokio::test]
async fn of_a_refused_request_only_the_writes_that_cause_it_fail() {
    let world = World::new();
    let (store, writes) = (&world.vectors, writes(40));
    store.faults.poison.lock().unwrap().insert(writes[17].id);
    store.faults.panics.lock().unwrap().insert(writes[3].id);
    store.faults.refused.lock().unwrap().insert(writes[30].id);
    let answers = apply_divided(store, &writes, || true).await;
    let failed = |i: usize| [3, 17, 30].contains(&i).then_some(FaultClass::Rejected);
    assert_eq!(classes(&answers), (0..40).map(failed).collect::<Vec<_>>());
    // A write that was refused for itself is not repeated.
    assert_eq!(store.faults.calls(), [40, 20, 10, 5, 2, 3, 1, 2, 1, 1, 5, 10, 5, 5, 2, 3, 1, 2, 20]);
}

#[tokio::test]
async fn requests_above_a_limit_become_smaller_and_reject_no_chunk() {
    let world = World::new();
    let (store, writes) = (&world.vectors, writes(40));
    store.faults.most.lock().unwrap().replace(10);
    let answers = apply_divided(store, &writes, || true).await;
    assert_eq!(classes(&answers), vec![None; 40]);
    assert_eq!(store.faults.calls(), [40, 20, 10, 10, 20, 10, 10]);
}

#[tokio::test]
async fn a_server_that_fails_meanwhile_gets_no_further_request_and_rejects_no_chunk() {
    let world = World::new();
    let (store, writes) = (&world.vectors, writes(8));
    store.faults.poison.lock().unwrap().insert(writes[3].id);
    let goes_down = || {
        store.faults.set_down(store.faults.calls().len() == 3);
        true
    };
    let answers = apply_divided(store, &writes, goes_down).await;
    assert_eq!(store.faults.calls(), [8, 4, 2, 2]);
    assert_eq!(classes(&answers), [&[None; 2][..], &[Some(FaultClass::Unavailable); 6]].concat());
}

#[tokio::test]
async fn nothing_is_repeated_once_the_caller_stops() {
    let world = World::new();
    let (store, writes) = (&world.vectors, writes(8));
    store.faults.poison.lock().unwrap().insert(writes[7].id);
    let answers = apply_divided(store, &writes, || false).await;
    assert_eq!(store.faults.calls(), [8]);
    assert_eq!(classes(&answers), [Some(FaultClass::Rejected); 8]);
}

#[tokio::test]
async fn a_poisoned_event_is_dead_lettered_alone() {
    let world = World::new();
    let (poison, sound) = (event("poison"), events("sound", 100));
    world.vectors.faults.poison.lock().unwrap().insert(poison.chunk_id());
    let batch = [&sound[..50], std::slice::from_ref(&poison), &sound[50..]].concat();
    world.publisher().publish(batch).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    let letters = world.letters().await;
    assert_eq!(letters.iter().map(|letter| letter.chunk()).collect::<Vec<_>>(), [Some(poison.chunk_id())]);
    for event in &sound {
        assert!(world.holds(event).await);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_poisoned_chunk_stops_no_other_when_the_outbox_is_drained() {
    let mut world = World::new();
    world.worker.patience = std::time::Duration::from_millis(100);
    let pending = async || world.records.outbox_counts().await.unwrap()[&Target::Qdrant];
    let (poison, sound) = (event("poison"), events("sound", 100));
    world.vectors.faults.poison.lock().unwrap().insert(poison.chunk_id());
    world.vectors.faults.set_down(true);
    let batch = [&sound[..50], std::slice::from_ref(&poison), &sound[50..]].concat();
    world.publisher().publish(batch).await.unwrap();
    let service = world.service().await;
    until("the outbox has everything", async || pending().await == 101).await;
    world.vectors.faults.set_down(false);
    until("only the poisoned chunk is left", async || pending().await == 1).await;
    for event in &sound {
        assert!(world.holds(event).await);
    }
    service.stop().await.unwrap();
}
