//! Races: another process writes a newer state between the store's read of a version and its write.

use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_testkit::states::{changed, delete, states, write};
use qdrant_client::Payload;
use qdrant_client::qdrant::{PointStruct, SetPayloadPointsBuilder, UpsertPointsBuilder};
use serde_json::json;

use crate::fixture::{Vectors, holds, written};

/// Applies `newer` after the store has read the version for `older` and before `older` takes effect.
async fn overtaken(vectors: &mut Vectors, older: Write, newer: &Write) {
    vectors.server().hold_next_update().await;
    let store = vectors.store.clone();
    let late = tokio::spawn(async move { store.apply(&[older]).await });
    vectors.server().held().await;
    written(&vectors.another(), std::slice::from_ref(newer)).await;
    vectors.server().release().await;
    assert!(late.await.unwrap().iter().all(Applied::is_durable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_state_of_another_process_is_never_overwritten() {
    let mut vectors = Vectors::of("1.18.1").await;
    let states = states(2);
    // First without a point in the store, then with one.
    for round in [0, 10] {
        let newer = write(&changed(&states[0], "the newer of the two"), round + 2);
        overtaken(&mut vectors, write(&states[0], round + 1), &newer).await;
        holds(&vectors.store, &newer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_conditional_upserts_a_late_write_of_a_second_process_overwrites_a_newer_state() {
    let mut vectors = Vectors::of("1.15.5").await;
    let state = states(1).remove(0);
    let (older, newer) = (write(&state, 1), write(&changed(&state, "the newer of the two"), 2));
    overtaken(&mut vectors, older.clone(), &newer).await;
    // The watch list or verification finds it, and the next write repairs it. This is why only one process may write to
    // such a server.
    holds(&vectors.store, &older).await;
    written(&vectors.store, std::slice::from_ref(&newer)).await;
    holds(&vectors.store, &newer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_delete_leaves_a_newer_state_on_every_version() {
    for version in ["1.18.1", "1.15.5"] {
        let mut vectors = Vectors::of(version).await;
        let state = states(1).remove(0);
        written(&vectors.store, &[write(&state, 1)]).await;
        let newer = write(&changed(&state, "the newer of the two"), 3);
        overtaken(&mut vectors, delete(newer.id, 2), &newer).await;
        holds(&vectors.store, &newer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_payload_does_not_mix_with_newer_vectors_on_every_version() {
    for version in ["1.18.1", "1.15.5"] {
        let mut vectors = Vectors::of(version).await;
        let state = states(1).remove(0);
        written(&vectors.store, &[write(&state, 1)]).await;
        let only_payload = Write { vectors_since: write(&state, 1).version, ..write(&state, 2) };
        let newer = write(&changed(&state, "the newer of the two"), 3);
        overtaken(&mut vectors, only_payload, &newer).await;
        holds(&vectors.store, &newer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writes_only_the_late_one_is_skipped() {
    let mut vectors = Vectors::of("1.18.1").await;
    let states = states(40);
    let writes: Vec<_> = states.iter().enumerate().map(|(i, state)| write(state, 100 + i as u64)).collect();
    let newer = write(&changed(&states[17], "the newer of the two"), 200);
    vectors.server().hold_next_update().await;
    let (store, late) = (vectors.store.clone(), writes.clone());
    let late = tokio::spawn(async move { store.apply(&late).await });
    vectors.server().held().await;
    written(&vectors.another(), std::slice::from_ref(&newer)).await;
    vectors.server().release().await;
    assert!(late.await.unwrap().iter().all(Applied::is_durable));
    for (i, write) in writes.iter().enumerate() {
        holds(&vectors.store, if i == 17 { &newer } else { write }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_of_another_program_has_version_zero_and_is_overwritten() {
    for version in ["1.18.1", "1.15.5"] {
        let vectors = Vectors::of(version).await;
        let raw = vectors.raw();
        let collection = vectors.config.collection.as_str();
        let wanted = write(&states(1)[0], 7);
        for shown in [json!({}), json!({ "sync_version": "latest" }), json!({ "sync_version": null })] {
            let id = wanted.id.to_string();
            let point = PointStruct::new(
                id,
                std::collections::HashMap::<String, Vec<f32>>::new(),
                Payload::try_from(shown).unwrap(),
            );
            raw.upsert_points(UpsertPointsBuilder::new(collection, vec![point]).wait(true)).await.unwrap();
            assert_eq!(
                vectors.store.fetch_documents(&[wanted.id]).await.unwrap()[0].as_ref().unwrap().version.get(),
                0
            );
            // Even for a write without new vectors: the vectors of the other program are replaced.
            let write = Write { vectors_since: write(&states(1)[0], 1).version, ..wanted.clone() };
            written(&vectors.store, &[write]).await;
            holds(&vectors.store, &wanted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_changed_by_another_program_is_detected() {
    let vectors = Vectors::of("1.18.1").await;
    let wanted = write(&states(1)[0], 7);
    written(&vectors.store, std::slice::from_ref(&wanted)).await;
    let payload = Payload::try_from(json!({ "language": "klingon" })).unwrap();
    let change = SetPayloadPointsBuilder::new(&vectors.config.collection, payload)
        .points_selector([qdrant_client::qdrant::PointId::from(wanted.id.to_string())])
        .wait(true);
    vectors.raw().set_payload(change).await.unwrap();
    let seen = vectors.store.fetch_documents(&[wanted.id]).await.unwrap().remove(0).unwrap();
    let expected = vectors.store.expect(wanted.state.as_ref().unwrap());
    assert_eq!((seen.version, seen.document.differing(&expected)), (wanted.version, vec!["language".to_owned()]));
}
