//! Entities and relations that several chunks share.

use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, Projection};
use chunk_sync_testkit::Fixture;
use serde_json::json;

use super::fixture::{Neo4j, delete, draft};

const ENTITY: &str = "MATCH (e:Entity {id: 'e'})
    RETURN e.name + ' ' + e.type + ' ' + e.confidence + ' ' + e.first_seen + ' ' + e.last_seen AS value";
const RELATION: &str = "MATCH (:Entity {id: 'e'})-[r:RELATES_TO]->(:Entity {id: 'f'})
    RETURN r.type + ' ' + r.confidence + ' ' + size(r.evidence) AS value";

#[tokio::test]
async fn an_entity_falls_back_to_the_supporter_that_remains() {
    let neo4j = Neo4j::fresh().await;
    let old = draft(1).entity("e", "old", 0.25).times("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z");
    let new = draft(2).entity("e", "new", 0.75).times("2026-01-01T00:00:00.45Z", "2026-01-01T00:00:01.25Z");
    neo4j.write(&[new.at(20)]).await;
    neo4j.write(&[old.at(10)]).await;
    assert_eq!(neo4j.texts(ENTITY).await, ["new concept 0.75 2026-01-01T00:00:00.45Z 2026-01-01T00:00:01.25Z"]);
    neo4j.write(&[delete(2, 21)]).await;
    assert_eq!(neo4j.texts(ENTITY).await, ["old concept 0.25 2026-01-01T00:00:00.5Z 2026-01-01T00:00:01Z"]);
    neo4j.write(&[draft(1).at(22)]).await;
    assert!(neo4j.texts(ENTITY).await.is_empty());
    assert_eq!(neo4j.store.counts().await.unwrap().chunks, 1);
}

#[tokio::test]
async fn a_relation_falls_back_to_the_evidence_that_remains() {
    let neo4j = Neo4j::fresh().await;
    let supporter =
        |number, confidence| draft(number).entity("e", "e", 0.5).entity("f", "f", 0.5).relation("e", "f", confidence);
    neo4j.write(&[supporter(1, 0.25).at(10), supporter(2, 0.5).at(30), supporter(3, 0.75).at(20)]).await;
    assert_eq!(neo4j.texts(RELATION).await, ["references 0.5 3"]);
    let without_relation = draft(2).entity("e", "e", 0.5).entity("f", "f", 0.5);
    neo4j.write(&[without_relation.at(31)]).await;
    assert_eq!(neo4j.texts(RELATION).await, ["references 0.75 2"]);
    let restated = supporter(3, 0.125).at(32);
    neo4j.write(std::slice::from_ref(&restated)).await;
    assert_eq!(neo4j.texts(RELATION).await, ["references 0.125 2"]);
    assert!(neo4j.differing(&restated).await.is_empty());
    assert!(neo4j.differing(&supporter(1, 0.25).at(10)).await.is_empty());
    neo4j.write(&[delete(1, 40), delete(3, 40)]).await;
    assert!(neo4j.texts(RELATION).await.is_empty());
    assert_eq!(neo4j.store.counts().await.unwrap().others["entities"], 2);
}

#[tokio::test]
async fn of_equal_versions_the_greater_id_wins() {
    let neo4j = Neo4j::fresh().await;
    let (one, two) = (draft(1).entity("e", "one", 0.5).at(10), draft(2).entity("e", "two", 0.5).at(10));
    neo4j.write(&[two]).await;
    neo4j.write(&[one]).await;
    assert!(neo4j.texts(ENTITY).await[0].starts_with("two "));
}

#[tokio::test]
async fn data_sets_and_projects_remain_when_their_chunks_are_deleted() {
    let neo4j = Neo4j::fresh().await;
    let project = "9f5b1c52-7a33-4b8e-9f0a-0f2f5a3c1d11";
    let chunk = draft(1).organization(json!({"cognee_dataset": "notes", "project_id": project}));
    neo4j.write(&[chunk.at(1)]).await;
    neo4j.write(&[draft(1).organization(json!({"cognee_dataset": "others"})).at(2)]).await;
    neo4j.write(&[delete(1, 3)]).await;
    let found = "MATCH (d:Dataset) OPTIONAL MATCH (d)-[:PART_OF]->(p:Project)
        RETURN d.id + ' ' + coalesce(p.id, '-') AS value ORDER BY value";
    assert_eq!(neo4j.texts(found).await, [format!("notes {project}"), "others -".to_owned()]);
}

#[tokio::test]
async fn a_data_set_belongs_to_the_project_of_the_last_write() {
    let neo4j = Neo4j::fresh().await;
    let [a, b] = ["9f5b1c52-7a33-4b8e-9f0a-0f2f5a3c1d11", "00000000-7a33-4b8e-9f0a-0f2f5a3c1d11"];
    let chunk = |number, project| draft(number).organization(json!({"cognee_dataset": "notes", "project_id": project}));
    neo4j.write(&[chunk(1, a).at(1)]).await;
    neo4j.write(&[chunk(1, a).at(5), chunk(2, b).at(6)]).await;
    let found = "MATCH (d:Dataset)-[:PART_OF]->(p:Project) RETURN p.id AS value";
    assert_eq!(neo4j.texts(found).await, [b]);
}

#[tokio::test]
async fn a_write_that_cannot_be_stored_fails_alone() {
    let neo4j = Neo4j::fresh().await;
    let long = json!({"cognee_dataset": "n".repeat(8001)});
    // The server refuses the long id; the store refuses the other two before it sends anything.
    let mut writes: Vec<_> = (1..=20).map(|number| draft(number).entity("e", "e", 0.5).at(1)).collect();
    writes[4] = draft(5).organization(long).at(1);
    writes[9] = draft(10).entity_at("e", "e", 0.5, &[u64::MAX]).at(1);
    writes[13] = draft(14).entity(&"i".repeat(9000), "e", 0.5).at(1);
    let applied = apply_divided(&*neo4j.store, &writes, || true).await;
    for (at, applied) in applied.iter().enumerate() {
        match (at, applied) {
            (4, Applied::Failed(fault)) => assert_eq!(fault.field.as_deref(), Some("organization.cognee_dataset")),
            (9, Applied::Failed(fault)) => assert_eq!(fault.field.as_deref(), Some("graph.entities.source_positions")),
            (13, Applied::Failed(fault)) => assert!(!fault.policy().retries(), "{fault}"),
            (_, applied) => assert!(matches!(applied, Applied::Written), "{at}: {applied:?}"),
        }
    }
    assert_eq!(neo4j.store.counts().await.unwrap().chunks, 17);
}
