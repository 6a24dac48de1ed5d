//! Damage of every kind, done with each server's own client: `verify` reports exactly that, and `--repair` repairs it.

use std::collections::BTreeSet;

use neo4rs::query;
use serde_json::Value;
use uuid::Uuid;

use crate::environment::Environment;

const CHUNKS: usize = 120;

type Differences = BTreeSet<(Uuid, &'static str, &'static str, &'static str)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_done_by_hand_is_reported_and_repaired() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(CHUNKS);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(CHUNKS as u64);
    let expected = damage(&environment).await;
    let report = environment.found(&["verify", "--json", "--list", "1000"]);
    assert_eq!(differences(&report), expected.iter().map(owned).collect(), "{report}");
    let said = environment.fine(&["verify", "--repair", "--orphans", "delete"]);
    assert!(said.contains("repaired 24 of 24 differing chunks"), "{said}");
    environment.assert_equal(CHUNKS as u64);
}

/// Damages the stores. Returns the differences that `verify` must report.
async fn damage(environment: &Environment) -> Differences {
    let ids = environment.ids().await;
    let mut expected = Differences::new();
    environment.delete_points(&ids[0..5]).await;
    expected.extend(ids[0..5].iter().map(|id| (*id, "qdrant", "missing", "")));
    for stray in ["one", "two", "three"].map(|name| Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())) {
        environment.add_point(stray).await;
        expected.insert((stray, "qdrant", "orphaned", ""));
    }
    for id in &ids[5..9] {
        environment.write_payload(*id, serde_json::json!({ "language": "klingon" })).await;
        expected.insert((*id, "qdrant", "different", "language"));
    }
    for id in &ids[9..11] {
        environment.write_vector(*id, (0..768_u16).map(|number| f32::from(number % 7) - 3.0).collect()).await;
        expected.insert((*id, "qdrant", "different", "dense_gte"));
    }
    for id in &ids[11..14] {
        let set = query("MATCH (c:Chunk {id: $id}) SET c.chunk_type = 'poem'");
        environment.cypher(set.param("id", id.to_string())).await;
        expected.insert((*id, "neo4j", "different", "chunk_type"));
    }
    // Of an entity without relations of the chunk: those are found through its entities.
    let link = "MATCH (c:Chunk)-[r:CONTAINS_ENTITY]->(e) WHERE c.id > $above \
                AND NOT EXISTS { (e)-[t:RELATES_TO]-() WHERE c.id IN t.evidence }";
    expected.insert((cut(environment, link, ids[20]).await, "neo4j", "different", "entities"));
    let relation = "MATCH (c:Chunk)-[:CONTAINS_ENTITY]->()-[r:RELATES_TO]->() WHERE c.id > $above \
                    AND r.evidence = [c.id]";
    let above = expected.iter().map(|(id, ..)| *id).filter(|id| ids.contains(id)).max().unwrap();
    expected.insert((cut(environment, relation, above).await, "neo4j", "different", "relations"));
    for id in &ids[16..19] {
        let row =
            format!("UPDATE unified.chunks SET content = 'a text written by hand into the row' WHERE id = '{id}'");
        environment.sql(&format!("SET session_replication_role = replica; {row}")).await;
        let named = [("postgres", "row"), ("qdrant", "content"), ("neo4j", "content_hash")];
        expected.extend(named.map(|(store, field)| (*id, store, "different", field)));
    }
    for id in &ids[19..21] {
        environment.cypher(query("MATCH (c:Chunk {id: $id}) DETACH DELETE c").param("id", id.to_string())).await;
        expected.insert((*id, "neo4j", "missing", ""));
    }
    expected
}

/// Deletes one of these relationships. Returns the id of its chunk.
async fn cut(environment: &Environment, relationships: &str, above: Uuid) -> Uuid {
    let cut = query(&format!("{relationships} WITH c.id AS id, r ORDER BY id LIMIT 1 DELETE r RETURN id"));
    let mut rows = environment.graph.execute(cut.param("above", above.to_string())).await.unwrap();
    let id: String = rows.next().await.unwrap().expect("no relationship matches").get("id").unwrap();
    // The statement is complete only after all its rows are read.
    while rows.next().await.unwrap().is_some() {}
    id.parse().unwrap()
}

fn owned(difference: &(Uuid, &str, &str, &str)) -> (Uuid, String, String, String) {
    let (id, store, kind, fields) = difference;
    (*id, (*store).to_owned(), (*kind).to_owned(), (*fields).to_owned())
}

fn differences(report: &Value) -> BTreeSet<(Uuid, String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let fields = |value: &Value| value.as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(" ");
    let one = |d: &Value| (text(&d["id"]).parse().unwrap(), text(&d["store"]), text(&d["kind"]), fields(&d["fields"]));
    report["differences"].as_array().unwrap().iter().map(one).collect()
}
