//! A collection under an alias, and one that other programs use too.

use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{Marked, Projection, Write};
use chunk_sync_model::SyncVersion;
use chunk_sync_testkit::qdrant_server::Options;
use chunk_sync_testkit::states::{changed, states, write};
use qdrant_client::qdrant::{
    CreateAlias, PointStruct, PointsIdsList, ScrollPointsBuilder, SetPayloadPointsBuilder, UpsertPointsBuilder,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Vectors, holds, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_serves_as_the_collection() {
    let vectors = Vectors::of("1.18.1").await;
    let alias = CreateAlias { collection_name: vectors.config.collection.clone(), alias_name: "current".into() };
    vectors.raw().create_alias(alias).await.unwrap();
    let config = QdrantConfig { collection: "current".into(), ..vectors.config.clone() };
    let store = QdrantStore::new(&config).unwrap();
    store.prepare().await.unwrap();
    let id = Uuid::new_v4();
    store.set_mark(id).await.unwrap();
    assert_eq!(store.marks().await.unwrap(), Some(vec![id]));
    assert_eq!(vectors.store.marks().await.unwrap(), Some(vec![id]), "the mark is on the collection itself");
    let wanted = write(&states(1)[0], 1);
    written(&store, std::slice::from_ref(&wanted)).await;
    holds(&vectors.store, &wanted).await;
}

/// A point of another program, with what it has in its payload.
async fn others(raw: &Qdrant, collection: &str) -> PointStruct {
    let payload = Payload::try_from(json!({"tenant": "x", "content": "not a chunk"})).unwrap();
    let point = PointStruct::new(7, std::collections::HashMap::<String, Vec<f32>>::new(), payload);
    raw.upsert_points(UpsertPointsBuilder::new(collection, vec![point.clone()]).wait(true)).await.unwrap();
    point
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_and_payload_keys_of_other_programs_stay() {
    for version in ["1.18.1", "1.15.5"] {
        let vectors = Vectors::bare(Options { version: version.to_owned(), ..Options::default() }).await;
        vectors.store.prepare().await.unwrap();
        let (raw, collection) = (vectors.raw(), vectors.config.collection.as_str());
        let theirs = others(&raw, collection).await;
        let state = &states(1)[0];
        written(&vectors.store, &[write(state, 1)]).await;
        let payload = Payload::try_from(json!({"reviewed_by": "ann", "labels": {"a": [1, 2]}})).unwrap();
        let ids = vec![state.chunk.id.to_string().into()];
        let set = SetPayloadPointsBuilder::new(collection, payload).points_selector(PointsIdsList { ids }).wait(true);
        raw.set_payload(set).await.unwrap();
        holds(&vectors.store, &write(state, 1)).await;
        // A new content, then only a new payload.
        let changed = write(&changed(state, "another content than before"), 2);
        written(&vectors.store, std::slice::from_ref(&changed)).await;
        let next = Write { version: SyncVersion::new(3), vectors_since: SyncVersion::new(2), ..changed };
        written(&vectors.store, std::slice::from_ref(&next)).await;
        holds(&vectors.store, &next).await;
        let scrolled = raw.scroll(ScrollPointsBuilder::new(collection).with_payload(true)).await.unwrap().result;
        assert_eq!(scrolled.len(), 2);
        assert_eq!(scrolled[0].payload, theirs.payload);
        let labels = scrolled[1].payload["labels"].clone().into_json();
        assert_eq!(
            (scrolled[1].payload["reviewed_by"].as_str().unwrap().as_str(), labels),
            ("ann", json!({"a": [1, 2]}))
        );
    }
}
