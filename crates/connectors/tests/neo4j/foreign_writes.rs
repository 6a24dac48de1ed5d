//! Data and changes of other clients in the same graph, and Cypher injection.

use chunk_sync_engine::ports::Write;
use chunk_sync_model::SyncVersion;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::scan::scanned;
use serde_json::json;

use super::fixture::{Neo4j, delete, draft, id};

fn pair() -> Write {
    draft(1).entity("e", "e", 0.5).entity("f", "f", 0.25).relation("e", "f", 0.75).at(10)
}

#[tokio::test]
async fn similarity_and_properties_of_other_clients_survive_an_update() {
    let neo4j = Neo4j::fresh().await;
    neo4j.write(&[draft(1).entity("e", "e", 0.5).at(1), draft(2).at(1)]).await;
    let similar = "MATCH (a:Chunk), (b:Chunk) WHERE a.id < b.id SET a.colour = 'red'
        CREATE (a)-[:SIMILAR_TO {score: 0.5}]->(b)";
    neo4j.write_directly(similar).await;
    let changed = draft(1).entity("f", "f", 0.5).at(2);
    neo4j.write(&[changed.clone(), draft(2).at(2)]).await;
    let found = "MATCH (a)-[s:SIMILAR_TO]->(b) RETURN a.colour + s.score AS value";
    assert_eq!(neo4j.texts(found).await, ["red0.5"]);
    assert!(neo4j.differing(&changed).await.is_empty());
    neo4j.write(&[delete(1, 3)]).await;
    assert!(neo4j.texts(found).await.is_empty());
    assert_eq!(neo4j.texts("MATCH (c:Chunk) RETURN c.id AS value").await, [id(2).to_string()]);
}

#[tokio::test]
async fn cypher_in_names_is_inert() {
    let neo4j = Neo4j::fresh().await;
    let injections = [
        "'}) DETACH DELETE n //",
        "\"}) MATCH (n) DETACH DELETE n //",
        "`:Chunk` {id: $id}",
        "\\u0027}) RETURN 1 //",
        "$rows } ] ) ; MATCH (n) DELETE n",
    ];
    neo4j.write(&[draft(1).entity("e", "e", 0.5).at(1)]).await;
    let mut chunk = draft(2).organization(json!({"cognee_dataset": injections[0]}));
    for (at, text) in injections.iter().enumerate() {
        chunk = chunk.entity(text, injections[(at + 1) % injections.len()], 0.5).relation(text, injections[0], 0.5);
    }
    let write = chunk.at(1);
    neo4j.write(std::slice::from_ref(&write)).await;
    assert!(neo4j.differing(&write).await.is_empty());
    let mut ids = neo4j.texts("MATCH (e:Entity) RETURN e.id AS value").await;
    ids.sort_unstable();
    let mut wanted = injections.to_vec();
    wanted.push("e");
    wanted.sort_unstable();
    assert_eq!(ids, wanted);
    neo4j.write(&[delete(2, 2)]).await;
    assert_eq!(neo4j.texts("MATCH (e:Entity) RETURN e.id AS value").await, ["e"]);
}

#[tokio::test]
async fn every_direct_change_of_the_graph_is_detected_and_repaired_by_a_repair() {
    let changes = [
        ("content_hash", "MATCH (c:Chunk) SET c.content_hash = 7"),
        ("updated_at", "MATCH (c:Chunk) REMOVE c.updated_at"),
        ("dataset", "MATCH (c:Chunk) CREATE (c)-[:BELONGS_TO]->(:Dataset {id: 'theirs'})"),
        ("entities", "MATCH (:Chunk)-[l:CONTAINS_ENTITY]->(:Entity {id: 'e'}) DELETE l"),
        ("entities", "MATCH (:Chunk)-[l:CONTAINS_ENTITY]->(:Entity {id: 'e'}) SET l.position = 'here', l.name = 'x'"),
        ("entities", "MATCH (c:Chunk), (e:Entity {id: 'e'}) CREATE (c)-[:CONTAINS_ENTITY {name: 'x'}]->(e)"),
        ("entities", "MATCH (c:Chunk) CREATE (c)-[:CONTAINS_ENTITY]->(:Entity {id: 'theirs'})"),
        ("entities", "MATCH (c:Chunk) CREATE (c)-[:CONTAINS_ENTITY]->(:Entity {id: 7, name: 'theirs'})"),
        ("entities", "MATCH (c:Chunk) CREATE (c)-[:CONTAINS_ENTITY]->(:Entity)"),
        ("entities", "MATCH (e:Entity {id: 'f'}) DETACH DELETE e"),
        ("relations", "MATCH ()-[r:RELATES_TO]->() DELETE r"),
        ("relations", "MATCH ()-[r:RELATES_TO]->() SET r.evidence = []"),
        ("relations", "MATCH ()-[r:RELATES_TO]->() SET r.evidence = 'none'"),
        ("relations", "MATCH ()-[l:CONTAINS_ENTITY]->() REMOVE l.relates_confidence"),
        ("relations", "MATCH ()-[l:CONTAINS_ENTITY]->() SET l.relates_to = ['e']"),
        ("relations", "MATCH (:Chunk)-[l:CONTAINS_ENTITY]->({id: 'e'}) SET l.relates_confidence = [0.5]"),
        ("relations", "MATCH (s)-[r:RELATES_TO]->(t) CREATE (s)-[x:RELATES_TO]->(t) SET x = properties(r)"),
        ("relations", "MATCH (s)-[r:RELATES_TO]->(t) CREATE (t)-[x:RELATES_TO]->(s) SET x = properties(r)"),
    ];
    let neo4j = Neo4j::fresh().await;
    for (field, statement) in changes {
        neo4j.write_directly("MATCH (n) DETACH DELETE n").await;
        neo4j.write(&[pair()]).await;
        neo4j.write_directly(statement).await;
        let differing = neo4j.differing(&pair()).await;
        assert!(differing.iter().any(|name| name == field), "{statement}: {differing:?}");
        // A repair allows no store to leave anything as it is.
        let version = SyncVersion::new(11);
        neo4j.write(&[Write { version, vectors_since: version, ..pair() }]).await;
        assert_eq!(neo4j.differing(&pair()).await, Vec::<String>::new(), "{statement}");
        let links = neo4j.texts("MATCH (:Chunk)-[l]->() RETURN type(l) AS value").await;
        assert_eq!(links, ["CONTAINS_ENTITY"; 2], "{statement}");
        let ours = "MATCH ()-[r:RELATES_TO]->() RETURN toString(size([id IN r.evidence WHERE id <> 'none'])) AS value";
        assert_eq!(neo4j.texts(ours).await, ["1"], "{statement}");
    }
}

#[tokio::test]
async fn a_chunk_whose_node_another_client_deleted_is_listed_once_as_evidence() {
    let neo4j = Neo4j::fresh().await;
    let other = draft(2).entity("e", "e", 0.5).entity("f", "f", 0.5).relation("e", "f", 0.125).at(3);
    neo4j.write(&[pair(), other.clone()]).await;
    neo4j.write_directly("MATCH (c:Chunk) WHERE c.id ENDS WITH '1' DETACH DELETE c").await;
    neo4j.write(&[pair()]).await;
    assert!(neo4j.differing(&pair()).await.is_empty());
    assert!(neo4j.differing(&other).await.is_empty());
    let evidence = "MATCH ()-[r:RELATES_TO]->() UNWIND r.evidence AS value RETURN value ORDER BY value";
    assert_eq!(neo4j.texts(evidence).await, [id(1).to_string(), id(2).to_string()]);
}

#[tokio::test]
async fn a_chunk_that_another_client_created_reads_as_version_zero_and_is_overwritten() {
    let neo4j = Neo4j::fresh().await;
    neo4j.rows(neo4rs::query("CREATE (c:Chunk {id: $id, sync_version: 'new'})").param("id", id(1).to_string())).await;
    neo4j.write_directly("CREATE (:Chunk {id: 'theirs'}), (:Chunk {id: 7}), (:Chunk)").await;
    let seen = scanned(&*neo4j.store).await;
    assert_eq!(seen.iter().map(|seen| (seen.id, seen.version.get())).collect::<Vec<_>>(), [(id(1), 0)]);
    neo4j.write(&[pair()]).await;
    assert!(neo4j.differing(&pair()).await.is_empty());
}

#[tokio::test]
async fn an_entity_that_another_client_created_is_overwritten() {
    let neo4j = Neo4j::fresh().await;
    let foreign = "CREATE (:Entity {id: 'e', name: 'theirs'})
        -[:RELATES_TO {type: 'references', evidence: 'hearsay'}]->(:Entity {id: 'f'})";
    neo4j.write_directly(foreign).await;
    neo4j.write(&[pair()]).await;
    assert!(neo4j.differing(&pair()).await.is_empty());
    assert_eq!(neo4j.texts("MATCH (e:Entity) RETURN e.name AS value ORDER BY value").await, ["e", "f"]);
}

#[tokio::test]
async fn no_version_that_another_client_gave_an_entity_or_a_relation_freezes_it() {
    for foreign in ["9007199254740991", "9007199254740990", "1e300", "'new'"] {
        let neo4j = Neo4j::fresh().await;
        neo4j.write(&[pair()]).await;
        let foreign = format!(
            "MATCH (e:Entity {{id: 'e'}})-[r:RELATES_TO]->() SET e.sync_version = {foreign}, e.name = 'theirs',
                r.sync_version = {foreign}, r.confidence = 0.375"
        );
        neo4j.write_directly(&foreign).await;
        let next = draft(1).entity("e", "renamed", 0.5).entity("f", "f", 0.25).relation("e", "f", 0.125).at(11);
        neo4j.write(std::slice::from_ref(&next)).await;
        assert!(neo4j.differing(&next).await.is_empty(), "{foreign}");
        let shown = "MATCH (e:Entity {id: 'e'})-[r:RELATES_TO]->()
            RETURN e.name + ' ' + e.sync_version + ' ' + r.confidence + ' ' + r.sync_version AS value";
        assert_eq!(neo4j.texts(shown).await, ["renamed 11 0.125 11"], "{foreign}");
    }
}

#[tokio::test]
async fn a_chunk_to_which_another_client_gave_a_version_outranks_no_other_supporter() {
    let neo4j = Neo4j::fresh().await;
    let supporter = |number, name| draft(number).entity("e", name, 0.5);
    neo4j.write(&[supporter(1, "one").at(10), supporter(2, "two").at(20), supporter(3, "three").at(30)]).await;
    neo4j.write_directly("MATCH (c:Chunk) WHERE c.id ENDS WITH '1' SET c.sync_version = 9007199254740991").await;
    neo4j.write(&[delete(3, 31)]).await;
    let shown = "MATCH (e:Entity) RETURN e.name + ' ' + e.sync_version AS value";
    assert_eq!(neo4j.texts(shown).await, ["two 20"]);
}
