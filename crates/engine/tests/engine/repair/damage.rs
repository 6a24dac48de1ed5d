//! Every kind of damage is named exactly and repaired.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::Clock;
use chunk_sync_engine::ports::Handover;
use chunk_sync_engine::repair::{Action, Orphans, Step, plan, publish};
use chunk_sync_engine::verify::{Kind, absence};
use chunk_sync_model::{Event, Limits, State, SyncVersion, Target, Time};
use chunk_sync_testkit::states::{changed, states};
use uuid::Uuid;

use super::world::{World, delete};

const COUNT: usize = 12;

/// A world without differences, and one of its chunks.
async fn world() -> (World, Arc<State>) {
    let states = states(COUNT);
    let world = World::with(&states).await;
    assert!(world.verify().await.consistent);
    (world, Arc::clone(&states[5]))
}

fn altered(state: &Arc<State>, alter: impl FnOnce(&mut State)) -> Arc<State> {
    let mut altered = State::clone(state);
    alter(&mut altered);
    Arc::new(altered)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_point_is_put_back() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.vectors.tamper(id, SyncVersion::default(), None);
    assert_eq!(world.differences(id).await, [("qdrant", "missing", String::new())]);
    let report = world.verify().await;
    assert_eq!((report.chunks, report.stores[&Target::Qdrant].missing), (COUNT as u64, 1));
    assert_eq!(report.stores[&Target::Qdrant].count, COUNT as u64 - 1);
    let plan = world.repair_all(Orphans::List).await;
    assert_eq!((plan.len(), plan[0].id, plan[0].action), (1, id, Action::Carry));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_node_is_put_back() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.graph.tamper(id, SyncVersion::default(), None);
    assert_eq!(world.differences(id).await, [("neo4j", "missing", String::new())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_payload_is_named_by_its_field_and_put_back() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let version = world.version(id).await;
    let tampered = altered(&world.row(id).await.unwrap(), |s| s.chunk.summary = Some("a changed summary".to_owned()));
    world.vectors.tamper(id, version, Some(&tampered));
    assert_eq!(world.differences(id).await, [("qdrant", "different", "summary".to_owned())]);
    world.repair_all(Orphans::List).await;
    assert!(world.version(id).await > version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_vector_is_named_and_put_back() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let tampered = altered(&world.row(id).await.unwrap(), |s| {
        s.chunk.embeddings.dense[0].vector = vec![0.5_f32; 768].into();
    });
    world.vectors.tamper(id, world.version(id).await, Some(&tampered));
    assert_eq!(world.differences(id).await, [("qdrant", "different", "dense_gte".to_owned())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_node_is_named_by_its_property_and_put_back() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let tampered = altered(&world.row(id).await.unwrap(), |s| s.chunk.content = "a changed text".to_owned());
    world.graph.tamper(id, world.version(id).await, Some(&tampered));
    assert_eq!(world.differences(id).await, [("neo4j", "different", "content_hash".to_owned())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_left_behind_is_stale_and_catches_up() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let old = altered(&world.row(id).await.unwrap(), |s| s.chunk.content = "an older text".to_owned());
    world.vectors.tamper(id, SyncVersion::new(1), Some(&old));
    assert_eq!(world.differences(id).await, [("qdrant", "stale", "content".to_owned())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_unseen_is_named_and_carried() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.change_row(id, |s| s.chunk.content = "a text written into the row".to_owned()).await;
    let named = world.differences(id).await;
    assert_eq!(named[0], ("postgres", "different", "row".to_owned()));
    assert_eq!(named[1], ("qdrant", "different", "content".to_owned()));
    assert_eq!(named[2], ("neo4j", "different", "content_hash".to_owned()));
    let plan = world.repair_all(Orphans::List).await;
    assert!(plan[0].why.ends_with("the row was changed, and that was not carried"), "{}", plan[0].why);
    assert_eq!(world.row(id).await.unwrap().chunk.content, "a text written into the row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_only_the_row_can_show_is_named_too() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.change_row(id, |s| s.chunk.location.chunk_index = 777).await;
    assert_eq!(world.differences(id).await, [("postgres", "different", "row".to_owned())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_absent_is_named_and_nothing_is_deleted() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.delete_row(id);
    assert_eq!(world.differences(id).await, [("postgres", "missing", String::new())]);
    let outcome = world.repair(Orphans::List).await;
    assert_eq!((outcome.plan[0].action, outcome.remaining.len()), (Action::Absent, 1));
    assert!(!absence(&world.ports, &[id]).await.unwrap()[0].absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_with_a_tombstone_is_deleted() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let before = world.row(id).await.unwrap();
    world.carry(vec![delete(id)]).await;
    assert!(world.verify().await.consistent);
    // With a version above that of the tombstone, like a point that was written by a machine whose clock is ahead.
    let shown = SyncVersion::new(world.version(id).await.get() + 1_000_000);
    world.vectors.tamper(id, shown, Some(&before));
    assert_eq!(world.differences(id).await, [("qdrant", "orphaned", String::new())]);
    let left = absence(&world.ports, &[id]).await.unwrap().remove(0);
    assert!(!left.absent && left.present.contains(&Target::Qdrant) && left.tombstone.is_some());
    let plan = world.repair_all(Orphans::List).await;
    assert_eq!(plan[0].action, Action::Delete);
    assert!(plan[0].why.contains("the record has a tombstone of"), "{}", plan[0].why);
    assert!(world.version(id).await > shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_without_a_record_is_listed_and_kept_unless_deletion_is_requested() {
    let (world, state) = world().await;
    for (name, shown) in [("a stray", 0), ("a lost one", 1_700_000_000_000_000)] {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        let stray = altered(&state, |s| s.chunk.id = id);
        world.vectors.tamper(id, SyncVersion::new(shown), Some(&stray));
        assert_eq!(world.differences(id).await, [("qdrant", "orphaned", String::new())]);
        let kept = world.repair(Orphans::List).await;
        assert_eq!((kept.plan[0].action, kept.remaining.len()), (Action::Undecided, 1));
        assert_eq!(kept.plan[0].why.contains("PostgreSQL has since lost it"), shown > 0, "{}", kept.plan[0].why);
        let plan = world.repair_all(Orphans::Delete).await;
        assert_eq!(plan[0].action, Action::Delete);
        assert!(absence(&world.ports, &[id]).await.unwrap()[0].absent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_the_future_is_overtaken_and_takes_the_next_change() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    let shown = SyncVersion::new(7_000_000_000_000_000);
    world.vectors.tamper(id, shown, world.row(id).await.as_ref());
    assert_eq!(world.differences(id).await, [("qdrant", "different", "sync_version".to_owned())]);
    world.repair_all(Orphans::List).await;
    assert!(world.version(id).await > shown);
    let mut next = Event::of_chunk(changed(&state, "a text after the repair").chunk.clone());
    next.timestamp = Time::from_micros(next.timestamp.micros() + 1_000_000);
    world.carry(vec![next]).await;
    assert!(world.verify().await.consistent);
    assert_eq!(world.row(id).await.unwrap().chunk.content, "a text after the repair");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_in_a_store_keeps_a_chunk_from_being_written() {
    let (highest, ceiling) = (SyncVersion::HIGHEST_SHOWN.get(), SyncVersion::CEILING.get());
    let versions = [highest - 1, highest, highest + 1, ceiling - 1, ceiling, ceiling + 1, SyncVersion::MAX.get()];
    for shown in versions.map(SyncVersion::new) {
        let (world, state) = world().await;
        let id = state.chunk.id;
        world.vectors.tamper(id, shown, Some(&changed(&state, "by a program from the year 2255")));
        world.graph.tamper(id, shown, Some(&changed(&state, "by a program from the year 2255")));
        world.repair_all(Orphans::List).await;
        for number in 1..4 {
            let mut next = Event::of_chunk(changed(&state, &format!("text {number} after the repair")).chunk.clone());
            next.timestamp = Time::from_micros(next.timestamp.micros() + number * 1_000_000);
            world.carry(vec![next]).await;
        }
        assert!(world.verify().await.consistent, "{shown}");
        assert_eq!(world.row(id).await.unwrap().chunk.content, "text 3 after the repair", "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_never_carried_is_carried() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    assert!(world.rows.lose_record(id), "the chunk had no record");
    world.vectors.tamper(id, SyncVersion::default(), None);
    assert_eq!(world.differences(id).await, [("qdrant", "missing", String::new())]);
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_is_filled_again() {
    let states = states(40);
    let world = World::with(&states).await;
    for state in &states {
        world.vectors.tamper(state.chunk.id, SyncVersion::default(), None);
    }
    let report = world.verify().await;
    assert_eq!((report.consistency, report.stores[&Target::Qdrant].missing), (0.0, 40));
    assert!(report.differences.iter().all(|d| d.kind == Kind::Missing));
    assert_eq!(world.repair_all(Orphans::List).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_executed_late_or_twice_writes_the_row_as_it_is_then() {
    let (world, state) = world().await;
    let id = state.chunk.id;
    world.vectors.tamper(id, SyncVersion::default(), None);
    let kept = plan(&world.verify().await.findings, Orphans::List);
    assert_eq!(kept[0].action, Action::Carry);
    world.carry(vec![Event::of_chunk(changed(&state, "published again meanwhile").chunk.clone())]).await;
    for _ in 0..2 {
        publish(&world.ports, &world.publisher, &kept, &|_| {}).await.unwrap();
        let before = world.version(id).await;
        world.carry(Vec::new()).await;
        assert!(world.version(id).await > before, "the second repair was taken for a repetition of the first");
    }
    assert!(world.verify().await.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_chunks_of_a_project_are_compared_where_one_is_named() {
    let states = states(COUNT);
    let world = World::with(&states).await;
    let project = states.iter().find_map(|s| s.chunk.organization.project_id).expect("no chunk has a project");
    let of = states.iter().filter(|s| s.chunk.organization.project_id == Some(project)).count();
    let options = chunk_sync_engine::verify::Options { project: Some(project), ..World::options() };
    let report = chunk_sync_engine::verify::verify(&world.ports, &options, &|_| {}).await.unwrap();
    assert_eq!((report.chunks, report.stores[&Target::Qdrant].count), (of as u64, of as u64));
    assert!(of < COUNT, "all chunks are of one project");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_verification_can_be_continued() {
    let states = states(40);
    let world = World::with(&states).await;
    let mut ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    ids.sort_unstable();
    for id in [ids[3], ids[30]] {
        world.vectors.tamper(id, SyncVersion::default(), None);
    }
    let options = chunk_sync_engine::verify::Options { page: 4, rate: Some(50), ..World::options() };
    let stop = Arc::clone(&options.stop);
    let verifying = chunk_sync_engine::verify::verify(&world.ports, &options, &|_| {});
    let stopping = async {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (first, ()) = tokio::join!(verifying, stopping);
    let first = first.unwrap();
    let after = first.stopped_after.expect("the verification was not stopped");
    assert!(first.chunks > 0 && first.chunks < 40, "{} chunks", first.chunks);
    let options = chunk_sync_engine::verify::Options { after: Some(after), ..World::options() };
    let rest = chunk_sync_engine::verify::verify(&world.ports, &options, &|_| {}).await.unwrap();
    assert_eq!((rest.stopped_after, first.chunks + rest.chunks), (None, 40));
    let found: Vec<Uuid> = [&first, &rest].iter().flat_map(|r| r.differences.iter().map(|d| d.id)).collect();
    assert_eq!(found, [ids[3], ids[30]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_carries_the_time_of_the_clock_of_the_ports() {
    let states = states(1);
    let mut world = World::with(&states).await;
    let then: jiff::Timestamp = "2031-05-06T07:08:09Z".parse().unwrap();
    world.ports.clock = Clock::new(move || then);
    let (id, above) = (states[0].chunk.id, SyncVersion::default());
    let step = Step { id, action: Action::Carry, why: String::new(), above };
    publish(&world.ports, &world.publisher, &[step], &|_| {}).await.unwrap();
    world.ports.bus.begin(Handover::Orderly).await.unwrap();
    let read = world.ports.bus.read(1, Duration::ZERO).await.unwrap();
    let event = Event::from_fields(&read[0].fields, &Limits::default()).unwrap();
    assert_eq!(event.timestamp, then.into());
}
