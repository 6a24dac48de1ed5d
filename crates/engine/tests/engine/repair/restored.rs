//! A system of record that was restored to an earlier state: until the operator adopts it, no newer state in a store is
//! overwritten, also before the guard has noticed the restore.

use std::collections::BTreeSet;
use std::sync::Arc;

use chunk_sync_engine::ports::{AbsenceLog, Heartbeat, Heartbeats, Installation, Installed, StoreSet};
use chunk_sync_engine::repair::{Orphans, suspect_restore};
use chunk_sync_model::{State, SyncVersion};
use chunk_sync_testkit::eventually;
use chunk_sync_testkit::memory::{MemoryCapture, MemoryHeartbeats};
use chunk_sync_testkit::states::{changed, states};
use uuid::Uuid;

use super::world::{World, gap_is_closed};

/// Gives the chunk in the vector store the newer state that the restore lost, and returns its version.
async fn newer(world: &World, state: &Arc<State>) -> SyncVersion {
    let id = state.chunk.id;
    let version = SyncVersion::new(world.version(id).await.get() + 1_000);
    world.vectors.tamper(id, version, Some(&changed(state, "the state that the restore lost")));
    version
}

/// The version that the vector store shows.
async fn shown(world: &World, id: Uuid) -> SyncVersion {
    world.ports.stores[0].fetch_documents(&[id]).await.unwrap().remove(0).unwrap().version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_looks_for_a_restore_before_it_overwrites_a_newer_version() {
    let states = states(3);
    let mut world = World::with(&states).await;
    let (id, version) = (states[0].chunk.id, newer(&world, &states[0]).await);
    let (noted, value) = (MemoryHeartbeats::default(), Uuid::max());
    noted.note(Heartbeat { value, at: jiff::Timestamp::now().into() }).await.unwrap();
    world.ports.heartbeats.push(Arc::new(noted));
    world.repair(Orphans::List).await;
    assert_eq!(shown(&world, id).await, version);
    let suspicion = world.rows.suspicion().await.unwrap().expect("the restore was not noticed");
    assert!(suspicion.text.contains("the database was restored"), "{}", suspicion.text);
    world.rows.note_heartbeat(value).await.unwrap();
    world.rows.record_table(true).await.unwrap();
    world.repair_all(Orphans::List).await;
    assert!(shown(&world, id).await > version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_after_a_gap_overwrites_no_newer_versions_that_reveal_a_restore() {
    let states = states(12);
    let world = World::with(&states).await;
    let capture = MemoryCapture::default();
    let service = world.service().await;
    let before = world.captures(&capture, &service);
    capture.write(&world.rows, Arc::clone(&states[0]), jiff::Timestamp::now().into());
    eventually(|| async { if capture.is_confirmed() { Ok(()) } else { Err("the write is not captured") } }).await;
    before.stop().await;
    let mut versions = Vec::new();
    for state in &states {
        versions.push(newer(&world, state).await);
    }
    capture.write(&world.rows, Arc::clone(&states[1]), jiff::Timestamp::now().into());
    capture.lose();
    let after = world.captures(&capture, &service);
    gap_is_closed(&after).await;
    service.until_idle().await.unwrap();
    for (state, version) in states.iter().zip(versions) {
        assert_eq!(shown(&world, state.chunk.id).await, version);
    }
    assert!(world.rows.suspicion().await.unwrap().is_some(), "the restore was not noticed");
    after.stop().await;
    service.stop().await.unwrap();
}

/// A pass of the scrubber may begin before the adoption and end after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspicion_from_before_an_adoption_is_not_recorded_after_it() {
    let states = states(12);
    let mut world = World::with(&states).await;
    let (stores, filling, floor) = (StoreSet::default(), BTreeSet::new(), SyncVersion::default());
    let installed = Installed { id: Uuid::max(), version: 1, stores, filling, floor };
    world.rows.record(None, &installed).await.unwrap();
    world.ports.set = Some(1);
    for state in &states {
        newer(&world, state).await;
    }
    let report = world.verify().await;
    let suspicion = suspect_restore(&world.ports, &report).await.unwrap();
    assert_eq!(world.rows.suspicion().await.unwrap(), suspicion);
    world.rows.record(Some(1), &Installed { version: 2, ..installed }).await.unwrap();
    world.rows.record_table(true).await.unwrap();
    let late = suspect_restore(&world.ports, &report).await.unwrap_err();
    assert!(late.outdated, "{late}");
    assert_eq!(world.rows.suspicion().await.unwrap(), None);
}
