//! Rows that disappear. Only what shows a deletion deletes: a captured DELETE, a `delete` event, or, where a deletion may
//! have been missed, the second look within the limit.

use std::sync::Arc;

use chunk_sync_engine::Clock;
use chunk_sync_engine::absence::{self, SECOND_LOOK};
use chunk_sync_engine::backfill::backfill;
use chunk_sync_engine::ports::{AbsenceCause, AbsenceLog, Fence, Outbox, PendingWrite, Suspicion};
use chunk_sync_engine::repair::{Action, Orphans, plan, publish};
use chunk_sync_model::{Body, Event, EventType, Origin, State, Time, Writer};
use chunk_sync_testkit::states::{changed, states};
use uuid::Uuid;

use super::world::{World, delete};

fn now() -> Time {
    jiff::Timestamp::now().into()
}

/// The time at which the second look at what is noted now is due.
fn due() -> Time {
    Time::from_micros(now().micros() + SECOND_LOOK.as_micros() as i64 + 1)
}

/// A captured event: the row was touched.
fn captured(state: &State, kind: EventType) -> Event {
    let id = state.chunk.id;
    let body = match kind {
        EventType::Delete => Body::Id(id),
        _ => Body::Chunk(Box::new(state.chunk.clone())),
    };
    Event {
        event_id: Uuid::new_v4(),
        kind,
        source: Origin::Hybrid,
        writer: Writer::Postgres,
        targets: vec![chunk_sync_model::Target::Qdrant, chunk_sync_model::Target::Neo4j],
        timestamp: now(),
        retry_count: 0,
        unchanged: Vec::new(),
        set: Vec::new(),
        position: Some("0/7".into()),
        body,
    }
}

/// A change of the content by claude, made now.
fn change(state: &State, content: &str) -> Event {
    let mut event = Event::of_chunk(changed(&Arc::new(state.clone()), content).chunk.clone());
    event.timestamp = now();
    event.event_id = Uuid::new_v4();
    event
}

async fn review(world: &World, at: Time) -> absence::Review {
    let review = absence::review(&world.ports, &world.publisher, None, at).await.unwrap();
    world.carry(Vec::new()).await;
    review
}

/// The number of chunks in both other stores, which must be equal.
async fn kept(world: &World) -> u64 {
    let mut counts = Vec::new();
    for store in &world.ports.stores {
        counts.push(store.counts().await.unwrap().chunks);
    }
    assert_eq!(counts[0], counts[1]);
    counts[0]
}

async fn noted(world: &World) -> Vec<AbsenceCause> {
    world.rows.absent_rows(None, 100).await.unwrap().into_iter().map(|noted| noted.cause).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_on_a_hidden_row_are_merged_and_nothing_is_deleted() {
    let states = states(5);
    let world = World::with(&states).await;
    let (hidden, other) = (&states[2], &states[3]);
    let id = hidden.chunk.id;
    let row = world.row(id).await.unwrap();
    world.delete_row(id);
    let content = "written while the row was hidden";
    world
        .carry(vec![
            captured(hidden, EventType::Update),
            captured(hidden, EventType::Create),
            change(hidden, content),
            change(other, "another chunk goes on"),
        ])
        .await;
    assert_eq!((kept(&world).await, noted(&world).await), (5, vec![AbsenceCause::Merge]));
    assert!(world.row(id).await.is_none(), "a row that may exist is not inserted");
    assert_eq!(world.row(other.chunk.id).await.unwrap().chunk.content, "another chunk goes on");
    // Nothing but a deletion deletes, however often it is looked at.
    for _ in 0..2 {
        review(&world, due()).await;
        world.repair(Orphans::List).await;
    }
    assert_eq!(kept(&world).await, 5);
    // The row shows again, as it was: it gets what was merged meanwhile.
    world.rows.write_row(id, Some(row));
    assert_eq!(review(&world, due()).await.shown, 1);
    assert_eq!(world.row(id).await.unwrap().chunk.content, content);
    assert!(world.verify().await.consistent && noted(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_delete_of_a_noted_chunk_deletes_at_once() {
    let states = states(3);
    let world = World::with(&states).await;
    let id = states[1].chunk.id;
    world.delete_row(id);
    world.carry(vec![captured(&states[1], EventType::Update)]).await;
    assert_eq!((kept(&world).await, noted(&world).await.len()), (3, 1));
    world.carry(vec![captured(&states[1], EventType::Delete)]).await;
    assert_eq!((kept(&world).await, noted(&world).await.len()), (2, 0));
    assert!(world.verify().await.consistent);
    let counts = world.rows.absence_counts(now()).await.unwrap();
    assert_eq!(counts.deletions.recent, 0, "a captured deletion never counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_delete_of_a_row_that_is_there_is_an_update() {
    let states = states(2);
    let world = World::with(&states).await;
    world.change_row(states[0].chunk.id, |state| state.chunk.content = "inserted again by its program".into()).await;
    world.carry(vec![captured(&states[0], EventType::Delete)]).await;
    assert_eq!(kept(&world).await, 2);
    assert!(world.verify().await.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_event_deletes_a_chunk_whose_row_is_absent() {
    let states = states(2);
    let world = World::with(&states).await;
    world.delete_row(states[0].chunk.id);
    world.carry(vec![change(&states[0], "seen before the deletion")]).await;
    let id = states[0].chunk.id;
    world.carry(vec![delete(id)]).await;
    assert_eq!((kept(&world).await, world.rows.absence_counts(now()).await.unwrap().noted), (1, 0));
    assert!(world.verify().await.consistent);
    // Created again: the row that was gone decides nothing.
    let created = change(&states[0], "created again after the deletion");
    world.carry(vec![Event { kind: EventType::Create, ..created }]).await;
    assert_eq!(kept(&world).await, 2);
    // The next review finds the row and removes the note.
    review(&world, due()).await;
    assert!(world.verify().await.consistent && noted(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_shows_again_after_a_delete_event_is_deleted() {
    let states = states(2);
    let world = World::with(&states).await;
    let id = states[0].chunk.id;
    let row = world.row(id).await.unwrap();
    world.delete_row(id);
    world.carry(vec![delete(id)]).await;
    world.rows.write_row(id, Some(row));
    review(&world, due()).await;
    assert!(world.row(id).await.is_none());
    assert_eq!(kept(&world).await, 1);
    assert!(world.verify().await.consistent && noted(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_captured_the_second_look_deletes_within_the_limit() {
    let states = states(50);
    let world = World::with(&states).await;
    for state in &states[..5] {
        world.delete_row(state.chunk.id);
    }
    let steps = plan(&world.verify().await.findings, Orphans::List);
    assert!(steps.iter().all(|step| step.action == Action::Absent) && steps.len() == 5);
    publish(&world.ports, &world.publisher, &steps, &|_| {}).await.unwrap();
    let first = review(&world, now()).await;
    assert_eq!((first.confirmed, first.deleted, kept(&world).await), (0, 0, 50), "the second look is not due");
    let second = review(&world, due()).await;
    assert_eq!((second.confirmed, second.deleted, kept(&world).await), (5, 5, 45));
    assert!(world.verify().await.consistent);
    // One more within the same day exceeds the limit: 5 of 50, and 4 of the 45 that are left.
    world.delete_row(states[7].chunk.id);
    absence::note(&world.ports, &[states[7].chunk.id], false).await.unwrap();
    let third = review(&world, due()).await;
    assert_eq!((third.held.unwrap().confirmed, third.deleted, kept(&world).await), (1, 0, 45));
    let day = Time::from_micros(due().micros() + 24 * 3600 * 1_000_000);
    assert_eq!((review(&world, day).await.deleted, kept(&world).await), (1, 44));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_chunks_none_is_deleted_unless_the_operator_decides() {
    let states = states(3);
    let world = World::with(&states).await;
    let id = states[0].chunk.id;
    world.delete_row(id);
    absence::note(&world.ports, &[id], true).await.unwrap();
    for _ in 0..3 {
        let reviewed = review(&world, due()).await;
        assert_eq!((reviewed.held.map(|held| held.confirmed), kept(&world).await), (Some(1), 3));
    }
    absence::force(&world.ports, &world.publisher, &[id], now()).await.unwrap();
    world.carry(Vec::new()).await;
    assert_eq!(kept(&world).await, 2);
    assert!(world.verify().await.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_shows_before_the_approved_deletion_is_merged_stays() {
    let states = states(50);
    let world = World::with(&states).await;
    let id = states[4].chunk.id;
    let row = world.row(id).await.unwrap();
    world.delete_row(id);
    absence::note(&world.ports, &[id], true).await.unwrap();
    // Approved and published, and not merged yet.
    absence::review(&world.ports, &world.publisher, None, due()).await.unwrap();
    world.rows.write_row(id, Some(row));
    world.carry(Vec::new()).await;
    assert_eq!(kept(&world).await, 50);
    assert!(world.verify().await.consistent && noted(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_deletion_is_captured_a_comparison_never_deletes() {
    let states = states(50);
    let world = World::with(&states).await;
    world.rows.capture_everything();
    let id = states[0].chunk.id;
    world.delete_row(id);
    absence::note(&world.ports, &[id], false).await.unwrap();
    for _ in 0..3 {
        review(&world, due()).await;
    }
    assert_eq!((kept(&world).await, noted(&world).await), (50, vec![AbsenceCause::Compared]));
    assert_eq!(world.rows.absence_counts(now()).await.unwrap().hidden, 1);
    // After a gap it may have been missed.
    absence::note(&world.ports, &[id], true).await.unwrap();
    assert_eq!(review(&world, due()).await.deleted, 1);
    assert_eq!(kept(&world).await, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_stops_deletions_even_by_the_operator_until_it_is_adopted() {
    let states = states(50);
    let world = World::with(&states).await;
    let id = states[0].chunk.id;
    world.rows.replace_table("another table");
    world.delete_row(id);
    absence::note(&world.ports, &[id], true).await.unwrap();
    assert!(review(&world, due()).await.suspended.is_some());
    let forced = absence::force(&world.ports, &world.publisher, &[id], now()).await.unwrap();
    world.carry(Vec::new()).await;
    assert!(forced.suspended.unwrap().text.contains("another table"));
    assert_eq!(kept(&world).await, 50);
    world.rows.record_table(true).await.unwrap();
    assert_eq!((review(&world, due()).await.deleted, kept(&world).await), (1, 49));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_beyond_the_limit_is_held_and_one_within_it_passes() {
    let states = states(50);
    let world = World::with(&states).await;
    for state in &states {
        world.delete_row(state.chunk.id);
    }
    assert!(absence::truncated(&world.ports, None, now()).await.unwrap().is_empty());
    review(&world, due()).await;
    assert_eq!((kept(&world).await, noted(&world).await.len()), (50, 50));
    assert_eq!(absence::truncated(&world.ports, Some(50), now()).await.unwrap().len(), 50);
    review(&world, due()).await;
    assert_eq!(kept(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_table_is_suspect_no_newer_version_in_a_store_is_overwritten() {
    let states = states(3);
    let world = World::with(&states).await;
    let id = states[0].chunk.id;
    let newer = changed(&states[0], "the state that the restore lost");
    let shown = chunk_sync_model::SyncVersion::new(world.version(id).await.get() + 1_000);
    world.vectors.tamper(id, shown, Some(&newer));
    world.rows.replace_table("restored");
    world.rows.suspect(&Suspicion { text: "restored".into() }, &Fence::default()).await.unwrap();
    world.repair(Orphans::List).await;
    let seen = world.ports.stores[0].fetch_documents(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!(seen.version, shown);
    world.rows.record_table(true).await.unwrap();
    world.repair_all(Orphans::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_after_an_adoption_are_above_the_floor() {
    let states = states(2);
    let mut world = World::with(&states).await;
    let floor = chunk_sync_model::SyncVersion::new(3_000_000_000_000_000);
    world.ports.floor = floor;
    let id = states[0].chunk.id;
    world.carry(vec![change(&states[0], "after the adoption")]).await;
    assert!(world.version(id).await >= floor && world.version(states[1].chunk.id).await < floor);
    assert!(world.verify().await.consistent);
    let before = world.version(id).await;
    world.carry(vec![change(&states[0], "and once more")]).await;
    assert!(world.version(id).await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_deleted_while_its_row_is_hidden_is_not_revived_by_the_row() {
    let states = states(2);
    let world = World::with(&states).await;
    let id = states[0].chunk.id;
    world.rows.hide([id]);
    world.carry(vec![delete(id)]).await;
    // Late once more, while the row is still hidden.
    world.carry(vec![Event::of_chunk(states[0].chunk.clone())]).await;
    assert_eq!(kept(&world).await, 1);
    world.rows.hide([]);
    review(&world, due()).await;
    assert!(world.row(id).await.is_none());
    assert_eq!(kept(&world).await, 1);
    assert!(world.verify().await.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_write_of_a_hidden_row_deletes_nothing() {
    let states = states(2);
    let world = World::with(&states).await;
    let ids = [states[0].chunk.id, states[1].chunk.id];
    let older = chunk_sync_model::SyncVersion::new(1);
    let mut pending = Vec::new();
    for (id, state) in ids.iter().zip(&states) {
        world.vectors.tamper(*id, older, Some(state));
        let version = world.version(*id).await;
        pending.push(PendingWrite { id: *id, target: chunk_sync_model::Target::Qdrant, version });
    }
    world.rows.hide([ids[0]]);
    world.rows.enqueue(&pending).await.unwrap();
    let service = world.service().await;
    let left = async |count: u64| {
        while world.rows.outbox_counts().await.unwrap()[&chunk_sync_model::Target::Qdrant] > count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    left(1).await;
    assert_eq!(world.ports.stores[0].counts().await.unwrap().chunks, 2, "the hidden row was taken for a deletion");
    world.rows.hide([]);
    left(0).await;
    service.stop().await.unwrap();
    assert!(world.verify().await.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_right_does_not_bring_the_second_look_forward() {
    let states = states(50);
    let mut world = World::with(&states).await;
    world.ports.clock = Clock::new(|| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1));
    world.delete_row(states[0].chunk.id);
    backfill(&world.ports, &world.publisher, None, &|_| {}).await.unwrap();
    world.ports.clock = Clock::default();
    assert_eq!((review(&world, now()).await.confirmed, kept(&world).await), (0, 50));
    assert_eq!((review(&world, due()).await.confirmed, kept(&world).await), (1, 49));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_shows_between_the_looks_is_not_deleted_when_it_vanishes_again() {
    let states = states(50);
    let world = World::with(&states).await;
    let id = states[1].chunk.id;
    let row = world.row(id).await.unwrap();
    world.delete_row(id);
    absence::note(&world.ports, &[id], true).await.unwrap();
    world.rows.confirm_absent(&[id]).await.unwrap();
    // The review that sees the row approves nothing for it, and the row is hidden again before its merge.
    world.rows.write_row(id, Some(row));
    let seen = absence::review(&world.ports, &world.publisher, None, due()).await.unwrap();
    assert_eq!((seen.shown, seen.deleted), (1, 0));
    world.delete_row(id);
    world.carry(Vec::new()).await;
    assert_eq!(kept(&world).await, 50);
    let again = review(&world, due()).await;
    assert_eq!((again.confirmed, again.deleted, kept(&world).await), (0, 0, 50), "both looks are due again");
}
