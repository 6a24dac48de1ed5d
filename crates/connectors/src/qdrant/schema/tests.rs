#![allow(clippy::unwrap_used)]

use chunk_sync_model::EmbeddingModel;
use qdrant_client::qdrant::{CollectionConfig, PayloadSchemaInfo};

use super::*;

fn created(limits: &Limits) -> CollectionParams {
    let created = creation("any", limits);
    CollectionParams {
        vectors_config: created.vectors_config,
        sparse_vectors_config: created.sparse_vectors_config,
        ..CollectionParams::default()
    }
}

fn vectors(params: &mut CollectionParams) -> &mut HashMap<String, VectorParams> {
    match params.vectors_config.as_mut().unwrap().config.as_mut().unwrap() {
        Config::ParamsMap(vectors) => &mut vectors.map,
        Config::Params(_) => unreachable!(),
    }
}

fn changed(change: impl Fn(&mut CollectionParams)) -> String {
    let limits = Limits::default();
    let mut held = created(&limits);
    assert_eq!(differs(&held, &limits), None);
    change(&mut held);
    differs(&held, &limits).unwrap()
}

#[test]
fn a_difference_names_the_vector_and_the_stored_and_the_required_value() {
    let size = changed(|held| vectors(held).get_mut("dense_gte").unwrap().size = 384);
    assert_eq!(size, "its vector `dense_gte` has 384 numbers, but 768 are configured");
    let missing = changed(|held| {
        vectors(held).remove("dense_alternative");
    });
    assert!(missing.contains("no vector `dense_alternative`"), "{missing}");
    let dot = changed(|held| vectors(held).get_mut("dense_gte").unwrap().distance = Distance::Dot.into());
    assert_eq!(dot, "the distance of its vector `dense_gte` is Dot, not Cosine");
    let half = |held: &mut CollectionParams| {
        vectors(held).get_mut("dense_gte").unwrap().datatype = Some(Datatype::Float16.into());
    };
    assert!(changed(half).contains("Float16"));
    let extra = changed(|held| {
        vectors(held).insert("dense_other".into(), VectorParams::default());
    });
    assert!(extra.contains("`dense_other`, which is not configured"), "{extra}");
    assert!(changed(|held| held.sparse_vectors_config = None).contains("sparse_splade"));
    let custom = changed(|held| held.sharding_method = Some(ShardingMethod::Custom.into()));
    assert!(custom.contains("custom sharding"), "{custom}");
    let unnamed = Config::Params(VectorParams { size: 768, ..VectorParams::default() });
    let unnamed = VectorsConfig { config: Some(unnamed) };
    assert_eq!(changed(|held| held.vectors_config = Some(unnamed.clone())), "its dense vector has no name");
}

#[test]
fn the_requests_name_every_vector_and_every_index() {
    let models = vec![EmbeddingModel { model: "m".into(), vector: "dense_m".into(), size: 3 }];
    let requests = requests::all("chunks", &Limits { models, ..Limits::default() });
    let request = |number: usize| {
        let (path, body) = requests[number].split_once(" {").unwrap();
        (path, serde_json::from_str::<serde_json::Value>(&format!("{{{body}")).unwrap())
    };
    let (path, body) = request(0);
    assert_eq!(path, "PUT /collections/chunks");
    let vector = json!({ "size": 3, "distance": "Cosine" });
    assert_eq!(body["vectors"], json!({ "dense_m": vector, "dense_alternative": vector }));
    assert_eq!(body["sparse_vectors"], json!({ "sparse_splade": {} }));
    assert_eq!(body["hnsw_config"], json!({ "m": 16, "ef_construct": 200 }));
    assert_eq!(requests.len(), 9);
    let (path, body) = request(7);
    assert_eq!(path, "PUT /collections/chunks/index?wait=true");
    assert_eq!(body, json!({ "field_name": "is_code", "field_schema": "bool" }));
}

#[test]
fn of_a_collection_only_the_missing_vectors_and_indexes_are_requested() {
    let (limits, mut held) = (Limits::default(), CollectionInfo::default());
    let mut params = created(&limits);
    vectors(&mut params).remove("dense_gte");
    held.config = Some(CollectionConfig { params: Some(params), ..CollectionConfig::default() });
    let indexed = INDEXES.iter().filter(|(field, ..)| *field != "language");
    held.payload_schema = indexed.map(|(field, ..)| ((*field).to_owned(), PayloadSchemaInfo::default())).collect();
    let requests = requests::lacking(&held, "chunks", &limits, true).unwrap();
    let wanted = [
        r#"PUT /collections/chunks/vectors/dense_gte?wait=true {"dense":{"distance":"Cosine","size":768}}"#,
        r#"PUT /collections/chunks/index?wait=true {"field_name":"language","field_schema":"keyword"}"#,
    ];
    assert_eq!(requests, wanted);
    // An older server cannot add the vector.
    assert!(requests::lacking(&held, "chunks", &limits, false).is_err());
}
