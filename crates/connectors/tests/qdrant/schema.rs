//! The collection: created as configured, or refused with the difference to the configuration.

use std::sync::Arc;

use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{Applied, Fault, FaultClass, Projection};
use chunk_sync_model::{EmbeddingModel, Limits, State};
use chunk_sync_testkit::qdrant_server::Options;
use chunk_sync_testkit::states::{states, write};
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, VectorParamsBuilder, VectorsConfigBuilder};

use crate::fixture::Vectors;

/// The fault that a process with these models gets.
async fn refused(vectors: &Vectors, models: Vec<EmbeddingModel>) -> Fault {
    let limits = Arc::new(Limits { models, ..Limits::default() });
    let store = QdrantStore::new(&QdrantConfig { limits, ..vectors.config.clone() }).unwrap();
    store.prepare().await.expect_err("the collection must be refused")
}

fn model(name: &str, size: usize) -> EmbeddingModel {
    EmbeddingModel { model: name.into(), vector: format!("dense_{name}"), size }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_made_for_other_models_is_refused_with_the_difference_and_the_remedy() {
    let vectors = Vectors::of("1.18.1").await;
    let smaller = refused(&vectors, vec![model("gte", 384), model("coderank", 768), model("cognee", 768)]).await;
    assert_eq!(smaller.class, FaultClass::Misconfigured);
    assert!(
        smaller.message.contains("its vector `dense_alternative` has 768 numbers, but 384 are configured"),
        "{smaller}"
    );
    assert!(smaller.message.contains("adapt [[embedding]] to the collection"), "{smaller}");
    let extra = refused(&vectors, vec![model("gte", 768), model("coderank", 768)]).await;
    assert!(extra.message.contains("has a vector `dense_cognee`, which is not configured"), "{extra}");
    vectors.store.prepare().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_model_is_added_if_the_server_supports_it_and_existing_points_stay() {
    let vectors = Vectors::of("1.18.1").await;
    let state = &states(1)[0];
    assert!(matches!(vectors.store.apply(&[write(state, 1)]).await[..], [Applied::Written]));
    let mut models = Limits::default().models;
    models.push(model("new", 16));
    let limits = Arc::new(Limits { models, ..Limits::default() });
    let store = QdrantStore::new(&QdrantConfig { limits, ..vectors.config.clone() }).unwrap();
    store.prepare().await.unwrap();
    store.prepare().await.unwrap();
    let held = store.fetch_documents(&[state.chunk.id]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(held.document, store.expect(state));
    let mut with_new = State::clone(state);
    let mut dense = with_new.chunk.embeddings.dense[0].clone();
    (dense.model, dense.vector) = ("new".to_owned(), vec![0.25_f32; 16].into());
    with_new.chunk.embeddings.dense.push(dense);
    let with_new = Arc::new(with_new);
    assert!(matches!(store.apply(&[write(&with_new, 2)]).await[..], [Applied::Written]));
    let held = store.fetch_documents(&[state.chunk.id]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(held.document, store.expect(&with_new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_model_is_refused_if_the_server_cannot_add_it() {
    let vectors = Vectors::of("1.7.4").await;
    let models = vec![model("gte", 768), model("coderank", 768), model("cognee", 768), model("new", 1024)];
    let missing = refused(&vectors, models).await;
    assert!(missing.message.contains("no vector `dense_new`, which is configured with 1024 numbers"), "{missing}");
    assert!(missing.message.contains("name another one in qdrant.collection"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_of_another_distance_is_refused() {
    let vectors = Vectors::bare(Options::default()).await;
    let mut dense = VectorsConfigBuilder::default();
    for name in ["dense_alternative", "dense_coderank", "dense_cognee", "dense_gte"] {
        dense.add_named_vector_params(name, VectorParamsBuilder::new(768, Distance::Dot));
    }
    let create = CreateCollectionBuilder::new(&vectors.config.collection).vectors_config(dense);
    vectors.raw().create_collection(create).await.unwrap();
    let fault = vectors.store.prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("the distance of its vector `dense_alternative` is Dot, not Cosine"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collection_has_the_configured_indexes_and_hnsw_parameters() {
    let vectors = Vectors::of("1.18.1").await;
    let info = vectors.raw().collection_info(&vectors.config.collection).await.unwrap().result.unwrap();
    let mut indexes: Vec<_> =
        info.payload_schema.iter().map(|(name, index)| (name.as_str(), index.data_type().as_str_name())).collect();
    indexes.sort_unstable();
    let wanted = [
        ("cognee_dataset", "Keyword"),
        ("created_at", "Datetime"),
        ("dataset_id", "Keyword"),
        ("is_code", "Bool"),
        ("language", "Keyword"),
        ("project_id", "Keyword"),
        ("source_type", "Keyword"),
        ("system_origin", "Keyword"),
    ];
    assert_eq!(indexes, wanted);
    let graph = info.config.unwrap().hnsw_config.unwrap();
    assert_eq!((graph.m, graph.ef_construct), (Some(16), Some(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_prepare_at_the_same_time_both_succeed() {
    let vectors = Vectors::bare(Options::default()).await;
    let (one, two) = (vectors.another(), vectors.another());
    let (one, two) = tokio::join!(one.prepare(), two.prepare());
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_too_old_for_sparse_vectors_is_refused() {
    let vectors = Vectors::bare(Options { version: "1.6.1".to_owned(), ..Options::default() }).await;
    let fault = vectors.store.prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("1.6.1") && fault.message.contains("1.7"), "{fault}");
}
