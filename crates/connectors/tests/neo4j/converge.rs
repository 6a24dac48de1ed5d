//! Concurrent writers, compared with a sequential computation of the expected graph.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use chunk_sync_connectors::neo4j::Neo4jStore;
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_samples::rng::Rng;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::scan::scanned;

use super::fixture::{Neo4j, config, delete, draft, id};

const WRITERS: usize = 4;
const ROUNDS: usize = 12;
const CHUNKS: usize = 60;
const ENTITIES: usize = 9;

/// A random write of a chunk at a version. There are few entities, so that all writers contend for each of them.
fn random(rng: &mut Rng, number: u128, version: u64) -> Write {
    if rng.one_in(5) {
        return delete(number, version);
    }
    let day = 1 + rng.below(20);
    let (created, updated) = (format!("2026-01-{day:02}T00:00:00Z"), format!("2026-02-{day:02}T00:00:00.{day}Z"));
    let mut chunk = draft(number).times(&created, &updated);
    let drawn: Vec<usize> = (0..ENTITIES).filter(|_| rng.one_in(3)).collect();
    for entity in &drawn {
        chunk = chunk.entity(&format!("e{entity}"), &format!("name {version}"), rng.hundredths(0, 100));
    }
    for ends in drawn.windows(2) {
        if rng.one_in(2) {
            chunk = chunk.relation(&format!("e{}", ends[0]), &format!("e{}", ends[1]), rng.hundredths(0, 100));
        }
    }
    chunk.at(version)
}

/// The entities and relations that result from the newest state of each chunk, one line each.
fn computed(newest: &BTreeMap<u128, Write>) -> Vec<String> {
    let mut living: Vec<_> = newest.values().filter(|write| write.state.is_some()).collect();
    living.sort_by_key(|write| (write.version, write.id));
    let mut entities = BTreeMap::new();
    let mut relations = BTreeMap::new();
    for write in living {
        let chunk = &write.state.as_ref().unwrap().chunk;
        let (created, updated) = (chunk.metadata.created_at, chunk.metadata.updated_at);
        for entity in &chunk.graph.entities {
            let (stated, first, last) = entities.entry(&entity.id).or_insert((None, created, updated));
            (*first, *last) = ((*first).min(created), (*last).max(updated));
            *stated = Some(format!("{} {:.2}", entity.name, entity.confidence));
        }
        for relation in &chunk.graph.relationships {
            let key = format!("{}>{}", relation.source_entity_id, relation.target_entity_id);
            let (stated, evidence): &mut (f64, BTreeMap<_, _>) = relations.entry(key).or_default();
            *stated = relation.confidence;
            evidence.insert(write.id.to_string(), relation.confidence);
        }
    }
    let mut lines: Vec<_> = entities
        .iter()
        .map(|(id, (stated, first, last))| format!("{id} {} {first} {last}", stated.as_ref().unwrap()))
        .collect();
    for (key, (stated, evidence)) in relations {
        let mut line = format!("{key} {stated:.2}");
        evidence.iter().for_each(|(chunk, confidence)| write!(line, " {chunk}:{confidence:.2}").unwrap());
        lines.push(line);
    }
    lines
}

/// The stored entities and relations, in the format of [`computed`].
async fn stored(neo4j: &Neo4j) -> Vec<String> {
    let mut lines = Vec::new();
    let entities = "MATCH (e:Entity) RETURN e.id AS id, e.name AS name, e.confidence AS confidence,
        e.first_seen + ' ' + e.last_seen AS seen ORDER BY id";
    for row in neo4j.rows(neo4rs::query(entities)).await {
        let text = |key| row.get::<String>(key).unwrap();
        lines.push(format!(
            "{} {} {:.2} {}",
            text("id"),
            text("name"),
            row.get::<f64>("confidence").unwrap(),
            text("seen")
        ));
    }
    let relations = "MATCH (s)-[r:RELATES_TO]->(t) UNWIND r.evidence AS id
        OPTIONAL MATCH (:Chunk {id: id})-[l:CONTAINS_ENTITY]->(s)
        WITH s, r, t, id,
            [i IN range(0, size(l.relates_to) - 1) WHERE l.relates_to[i] = t.id | l.relates_confidence[i]] AS stated
        RETURN s.id + '>' + t.id AS key, r.confidence AS confidence, id, head(stated) AS stated ORDER BY key, id";
    let mut evidence = BTreeMap::new();
    for row in neo4j.rows(neo4rs::query(relations)).await {
        let text = |key| row.get::<String>(key).unwrap();
        let number = |key| row.get::<f64>(key).unwrap();
        let line: &mut String =
            evidence.entry(text("key")).or_insert_with(|| format!("{} {:.2}", text("key"), number("confidence")));
        write!(line, " {}:{:.2}", text("id"), number("stated")).unwrap();
    }
    lines.extend(evidence.into_values());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn four_writers_over_shared_entities_converge_to_the_sequential_result() {
    let neo4j = Neo4j::fresh().await;
    let seed =
        std::env::var("CHUNK_SYNC_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("CHUNK_SYNC_TEST_SEED={seed}");
    let mut newest = BTreeMap::new();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Each writer has its own chunks, because a deleted chunk has no stored version that would reject an older
        // write.
        let mut rng = Rng::new(seed + writer as u64);
        let mut batches = Vec::new();
        for round in 0..ROUNDS {
            let mut batch = BTreeMap::new();
            for _ in 0..CHUNKS / 4 {
                let number = (rng.below(CHUNKS) * WRITERS + writer) as u128;
                let version = (round * 1000 + rng.below(1000)) as u64 + 1;
                batch.insert(number, random(&mut rng, number, version));
            }
            newest.extend(batch.clone());
            batches.push(batch.into_values().collect::<Vec<_>>());
        }
        writers.push(tokio::spawn(persist(batches)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(stored(&neo4j).await, computed(&newest));
    let seen = scanned(&*neo4j.store).await;
    let living: Vec<_> = newest.values().filter(|write| write.state.is_some()).collect();
    assert_eq!(seen.len(), living.len());
    for (seen, write) in seen.iter().zip(living) {
        assert_eq!((seen.id, seen.version), (write.id, write.version));
        assert!(seen.document.differing(&neo4j.store.expect(write.state.as_ref().unwrap())).is_empty());
    }
}

/// Repeats the writes until all are durable, as the engine does, because concurrent transactions can block each other.
async fn persist(batches: Vec<Vec<Write>>) {
    let store = Arc::new(Neo4jStore::new(&config()).unwrap());
    for mut batch in batches {
        while !batch.is_empty() {
            let applied = store.apply(&batch).await;
            let mut applied = applied.iter();
            batch.retain(|_| match applied.next().unwrap() {
                Applied::Failed(fault) => {
                    assert!(fault.policy().retries(), "{fault}");
                    true
                }
                Applied::Written | Applied::Skipped => false,
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_of_the_same_chunks_leave_the_newest_version() {
    let neo4j = Neo4j::fresh().await;
    let batch = |version| (0..40).map(|n| draft(n).entity("e", &format!("v{version}"), 0.5).at(version)).collect();
    let writers: Vec<_> = (1..=8).map(|version| tokio::spawn(persist(vec![batch(version)]))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = scanned(&*neo4j.store).await;
    assert_eq!(
        seen.iter().map(|seen| (seen.id, seen.version.get())).collect::<Vec<_>>(),
        (0..40).map(|n| (id(n), 8)).collect::<Vec<_>>()
    );
    assert_eq!(neo4j.texts("MATCH (e:Entity) RETURN e.name AS value").await, ["v8"]);
}
