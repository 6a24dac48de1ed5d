//! Failures, and the faults that the store returns for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, FaultClass, Projection};
use chunk_sync_model::chunk::Sparse;
use chunk_sync_model::{Limits, State, Time};
use chunk_sync_testkit::qdrant_server::Options;
use chunk_sync_testkit::states::{states, write};
use tokio::net::TcpListener;

use crate::fixture::{Vectors, holds, written};

fn class(applied: &Applied) -> Option<FaultClass> {
    match applied {
        Applied::Failed(fault) => Some(fault.class),
        Applied::Written | Applied::Skipped => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_server_refuses_fails_alone() {
    for version in ["1.18.1", "1.15.5"] {
        let vectors = Vectors::of(version).await;
        let states = states(20);
        let mut bad = State::clone(&states[13]);
        // A row may hold a vector that no event may contain: a duplicate index.
        let (indices, values) = (vec![4, 4], vec![0.5, 0.5]);
        bad.chunk.embeddings.sparse =
            Some(Sparse { model: "splade".into(), indices, values, timestamp: Some(Time::from_micros(0)) });
        let mut writes: Vec<_> = states.iter().map(|state| write(state, 1)).collect();
        writes[13].state = Some(Arc::new(bad));
        for (i, answer) in apply_divided(&*vectors.store, &writes, || true).await.iter().enumerate() {
            assert_eq!(class(answer), (i == 13).then_some(FaultClass::Rejected), "{i}: {answer:?}");
        }
        for (i, write) in writes.iter().enumerate().filter(|(i, _)| *i != 13) {
            assert!(i < 20);
            holds(&vectors.store, write).await;
        }
        assert_eq!(vectors.store.counts().await.unwrap().chunks, 19);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_server_is_reported_quickly() {
    // A free port: bound and released again.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config = QdrantConfig::new(format!("http://127.0.0.1:{port}"), Arc::new(Limits::default()));
    let store = QdrantStore::new(&config).unwrap();
    let writes: Vec<_> = states(600).iter().map(|state| write(state, 1)).collect();
    let begun = Instant::now();
    let answers = store.apply(&writes).await;
    assert!(answers.iter().all(|answer| class(answer) == Some(FaultClass::Unavailable)), "{:?}", answers[0]);
    assert_eq!(answers.len(), 600);
    assert_eq!(store.check().await.unwrap_err().class, FaultClass::Unavailable);
    assert_eq!(store.fetch_documents(&[writes[0].id]).await.unwrap_err().class, FaultClass::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_a_timeout() {
    // It accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = QdrantConfig {
        timeout: Duration::from_millis(300),
        ..QdrantConfig::new(format!("http://{}", listener.local_addr().unwrap()), Arc::new(Limits::default()))
    };
    let store = QdrantStore::new(&config).unwrap();
    let writes: Vec<_> = states(2000).iter().map(|state| write(state, 1)).collect();
    let begun = Instant::now();
    let answers = store.apply(&writes).await;
    assert!(answers.iter().all(|answer| class(answer) == Some(FaultClass::Timeout)), "{:?}", answers[0]);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "the batches timed out one after the other: {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_used_again() {
    let mut vectors = Vectors::of("1.18.1").await;
    let (first, second) = (write(&states(2)[0], 1), write(&states(2)[1], 1));
    written(&vectors.store, std::slice::from_ref(&first)).await;
    vectors.stop().await;
    assert_eq!(class(&vectors.store.apply(std::slice::from_ref(&second)).await[0]), Some(FaultClass::Unavailable));
    vectors.start().await;
    written(&vectors.store, std::slice::from_ref(&second)).await;
    holds(&vectors.store, &first).await;
    holds(&vectors.store, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_can_be_repeated() {
    let mut vectors = Vectors::of("1.18.1").await;
    let impatient = QdrantConfig { timeout: Duration::from_millis(200), ..vectors.config.clone() };
    let impatient = QdrantStore::new(&impatient).unwrap();
    let wanted = write(&states(1)[0], 1);
    impatient.check().await.unwrap();
    vectors.server().hold_next_update().await;
    let answer = impatient.apply(std::slice::from_ref(&wanted)).await;
    assert_eq!(class(&answer[0]), Some(FaultClass::Timeout), "{answer:?}");
    vectors.server().release().await;
    assert!(vectors.store.apply(std::slice::from_ref(&wanted)).await[0].is_durable());
    holds(&vectors.store, &wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_wrong_key_is_denied() {
    let key = "pl4nted";
    let vectors = Vectors::bare(Options { api_key: Some(key.to_owned()), ..Options::default() }).await;
    let fault = vectors.store.check().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Denied, "{fault}");
    let wrong = QdrantConfig { api_key: Some("another".into()), ..vectors.config.clone() };
    assert_eq!(QdrantStore::new(&wrong).unwrap().prepare().await.unwrap_err().class, FaultClass::Denied);
    let right = QdrantConfig { api_key: Some(key.into()), ..vectors.config.clone() };
    let store = QdrantStore::new(&right).unwrap();
    store.prepare().await.unwrap();
    written(&store, &[write(&states(1)[0], 1)]).await;
    assert!(!format!("{right:?}").contains(key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_collection_is_reported_with_the_remedy() {
    let vectors = Vectors::of("1.18.1").await;
    vectors.raw().delete_collection(&vectors.config.collection).await.unwrap();
    let answers = vectors.store.apply(&[write(&states(1)[0], 1)]).await;
    let Applied::Failed(fault) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("chunk-sync init"), "{fault}");
    assert_eq!(vectors.store.check().await.unwrap_err().class, FaultClass::Misconfigured);
    vectors.store.prepare().await.unwrap();
    vectors.store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_recreated_with_other_sizes_rejects_no_chunk() {
    let vectors = Vectors::of("1.18.1").await;
    vectors.raw().delete_collection(&vectors.config.collection).await.unwrap();
    let mut limits = Limits::default();
    limits.models.iter_mut().for_each(|model| model.size = 3);
    let other = QdrantConfig { limits: Arc::new(limits), ..vectors.config.clone() };
    QdrantStore::new(&other).unwrap().prepare().await.unwrap();
    let states: Vec<_> = states(50).into_iter().filter(|state| !state.chunk.embeddings.dense.is_empty()).collect();
    let answers = vectors.store.apply(&states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    // The chunks match the configuration, so the collection is wrong and the operator must act.
    assert!(answers.iter().all(|answer| class(answer) == Some(FaultClass::Misconfigured)), "{:?}", answers[0]);
}
