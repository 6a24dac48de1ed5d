//! Damage of every kind, done by hand with each server's own client: `verify` names exactly that, `--repair` mends it.

use std::collections::BTreeSet;

use neo4rs::query;
use serde_json::Value;
use uuid::Uuid;

use crate::place::Place;

const CHUNKS: usize = 120;

type Differences = BTreeSet<(Uuid, &'static str, &'static str, &'static str)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_done_by_hand_is_found_named_and_mended() {
    let place = Place::new().await;
    place.fine(&["init"]);
    place.publish(CHUNKS);
    place.fine(&["run", "--drain"]);
    place.assert_equal(CHUNKS as u64);
    let expected = damage(&place).await;
    let report = place.found(&["verify", "--json", "--list", "1000"]);
    assert_eq!(differences(&report), expected.iter().map(owned).collect(), "{report}");
    let said = place.fine(&["verify", "--repair", "--orphans", "delete"]);
    assert!(said.contains("repaired 24 of 24 differing chunks"), "{said}");
    place.assert_equal(CHUNKS as u64);
}

/// Does it, and says what must be found.
async fn damage(place: &Place) -> Differences {
    let ids = place.ids().await;
    let mut expected = Differences::new();
    place.delete_points(&ids[0..5]).await;
    expected.extend(ids[0..5].iter().map(|id| (*id, "qdrant", "missing", "")));
    for stray in ["one", "two", "three"].map(|name| Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())) {
        place.add_point(stray).await;
        expected.insert((stray, "qdrant", "orphaned", ""));
    }
    for id in &ids[5..9] {
        place.write_payload(*id, serde_json::json!({ "language": "klingon" })).await;
        expected.insert((*id, "qdrant", "different", "language"));
    }
    for id in &ids[9..11] {
        place.write_vector(*id, (0..768_u16).map(|number| f32::from(number % 7) - 3.0).collect()).await;
        expected.insert((*id, "qdrant", "different", "dense_gte"));
    }
    for id in &ids[11..14] {
        let set = query("MATCH (c:Chunk {id: $id}) SET c.chunk_type = 'poem'");
        place.cypher(set.param("id", id.to_string())).await;
        expected.insert((*id, "neo4j", "different", "chunk_type"));
    }
    for id in &ids[14..16] {
        let cut = query("MATCH (:Chunk {id: $id})-[r:CONTAINS_ENTITY]->() WITH r LIMIT 1 DELETE r");
        place.cypher(cut.param("id", id.to_string())).await;
        expected.insert((*id, "neo4j", "different", "entities"));
    }
    for id in &ids[16..19] {
        let row = format!("UPDATE unified.chunks SET content = 'what somebody wrote into the row' WHERE id = '{id}'");
        place.sql(&format!("SET session_replication_role = replica; {row}")).await;
        let named = [("postgres", "row"), ("qdrant", "content"), ("neo4j", "content_hash")];
        expected.extend(named.map(|(store, field)| (*id, store, "different", field)));
    }
    for id in &ids[19..21] {
        place.cypher(query("MATCH (c:Chunk {id: $id}) DETACH DELETE c").param("id", id.to_string())).await;
        expected.insert((*id, "neo4j", "missing", ""));
    }
    expected
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
