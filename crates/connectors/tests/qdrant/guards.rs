//! Between reading a version and writing, another process may have written a newer state.

use chunk_sync_engine::ports::{Applied, Store, Write};
use chunk_sync_testkit::states::{changed, delete, states, write};
use qdrant_client::Payload;
use qdrant_client::qdrant::{PointStruct, SetPayloadPointsBuilder, UpsertPointsBuilder};
use serde_json::json;

use crate::fixture::{Vectors, holds, written};

/// Has `newer` written between the moment when the versions for `older` were read and the moment when it takes effect.
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
    // Where nothing was held, and where something was.
    for round in [0, 10] {
        let newer = write(&changed(&states[0], "the newer of the two"), round + 2);
        overtaken(&mut vectors, write(&states[0], round + 1), &newer).await;
        holds(&vectors.store, &newer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_conditions_goes_back_where_two_processes_write() {
    let mut vectors = Vectors::of("1.15.5").await;
    let state = states(1).remove(0);
    let (older, newer) = (write(&state, 1), write(&changed(&state, "the newer of the two"), 2));
    overtaken(&mut vectors, older.clone(), &newer).await;
    // What the next write or verification mends, and why one process alone may write there.
    holds(&vectors.store, &older).await;
    written(&vectors.store, std::slice::from_ref(&newer)).await;
    holds(&vectors.store, &newer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_delete_leaves_a_newer_state_whatever_the_server() {
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
async fn a_late_payload_does_not_mix_with_newer_vectors_whatever_the_server() {
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
async fn one_late_write_of_many_is_the_only_one_left_out() {
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
async fn what_a_stranger_wrote_shows_no_version_and_gives_way() {
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
            assert_eq!(vectors.store.read(&[wanted.id]).await.unwrap()[0].as_ref().unwrap().version.get(), 0);
            // Even where no vector is said to have changed: the stranger's are not ours.
            let write = Write { vectors_since: write(&states(1)[0], 1).version, ..wanted.clone() };
            written(&vectors.store, &[write]).await;
            holds(&vectors.store, &wanted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_a_stranger_changed_is_seen() {
    let vectors = Vectors::of("1.18.1").await;
    let wanted = write(&states(1)[0], 7);
    written(&vectors.store, std::slice::from_ref(&wanted)).await;
    let payload = Payload::try_from(json!({ "language": "klingon" })).unwrap();
    let change = SetPayloadPointsBuilder::new(&vectors.config.collection, payload)
        .points_selector([qdrant_client::qdrant::PointId::from(wanted.id.to_string())])
        .wait(true);
    vectors.raw().set_payload(change).await.unwrap();
    let seen = vectors.store.read(&[wanted.id]).await.unwrap().remove(0).unwrap();
    let expected = vectors.store.expect(wanted.state.as_ref().unwrap());
    assert_eq!((seen.version, seen.fingerprint.differing(&expected)), (wanted.version, vec!["language".to_owned()]));
}
