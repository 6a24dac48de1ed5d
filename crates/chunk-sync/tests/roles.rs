//! Installations with some of the servers, on real servers: PostgreSQL with Redis and Neo4j, Redis or Neo4j with embedded
//! rows, and changes of the set of stores. Qdrant is not covered here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "roles/environment.rs"]
mod place;

use chunk_sync_model::Target;

use place::{Place, Role};

/// Number of chunks per test.
const CHUNKS: usize = 400;

/// Publishes, kills the service half-way, changes rows by SQL if they are in PostgreSQL, and compares the stores.
async fn carries_everything(place: &Place) {
    place.fine(&["init"]);
    let service = place.start();
    place.publish(CHUNKS);
    place.until_some_are_carried().await;
    service.kill();
    let service = place.start();
    place.settled();
    if place.has(Role::Postgres) {
        place.sql("UPDATE unified.chunks SET content = content || ' (changed by SQL)'").await;
        place.until_captured().await;
    }
    service.terminate();
    place.fine(&["run", "--drain"]);
    place.assert_equal(CHUNKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_redis_and_neo4j_lose_nothing_in_a_kill() {
    carries_everything(&Place::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_neo4j_lose_nothing_in_a_kill() {
    carries_everything(&Place::new(&[Role::Postgres, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_neo4j_with_embedded_rows_lose_nothing_in_a_kill() {
    carries_everything(&Place::new(&[Role::Redis, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_with_embedded_rows_and_bus_loses_nothing_in_a_kill() {
    carries_everything(&Place::new(&[Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_is_rejected_before_init() {
    let place = Place::new(&[Role::Postgres, Role::Redis]).await;
    let error = place.refused(&["run"]);
    assert!(error.contains("chunk-sync init"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_set_is_rejected_with_both_sets_and_the_remedy() {
    let mut place = Place::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    place.fine(&["init"]);
    place.configure(&[Role::Postgres, Role::Redis]);
    for command in [&["run"][..], &["publish"], &["verify"], &["status"]] {
        let error = place.refused(command);
        assert!(error.contains("names no store beside the rows, and the installation has neo4j (set 1)"), "{error}");
        assert!(error.contains("init --without neo4j"), "{error}");
    }
    let error = place.refused(&["init"]);
    assert!(error.contains("init --without neo4j"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_installation_are_rejected() {
    let place = Place::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    place.fine(&["init"]);
    let mut other = place.neighbour(&[Role::Redis]).await;
    for command in [&["init"][..], &["run"]] {
        let error = other.refused(command);
        assert!(error.contains("the stream") && error.contains("belongs to installation"), "{error}");
        assert!(error.contains("DEL "), "{error}");
    }
    other.use_stream("elsewhere");
    other.configure(&[Role::Redis, Role::Neo4j]);
    let error = other.refused(&["init"]);
    assert!(error.contains("the database in Neo4j belongs to installation"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_removed_while_a_process_runs_and_filled_when_it_is_added_again() {
    let mut place = Place::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    place.fine(&["init"]);
    place.publish(CHUNKS);
    place.fine(&["run", "--drain"]);
    let service = place.start();
    // Only the service can carry this chunk: once it is carried, the service has read the set.
    place.publish(CHUNKS + 1);
    place.settled();
    place.configure(&[Role::Postgres, Role::Redis]);
    let changed = place.fine(&["init", "--without", "neo4j"]);
    assert_eq!(
        (&changed["installation"]["version"], &changed["installation"]["stores"]),
        (&2.into(), &serde_json::json!({}))
    );
    assert_eq!(place.nodes().await, CHUNKS as u64 + 1, "the content of the store is kept");
    place.publish(CHUNKS + 10);
    let error = service.ended();
    assert!(error.contains("its version is 2 now") && error.contains("started with version 1"), "{error}");
    place.fine(&["run", "--drain"]);
    place.assert_equal(CHUNKS + 10);
    place.configure(&[Role::Postgres, Role::Redis, Role::Neo4j]);
    assert!(place.refused(&["run"]).contains("run `chunk-sync init` to add what is new"));
    let added = place.fine(&["init"]);
    assert_eq!(added["installation"]["filling"], serde_json::json!([Target::Neo4j]));
    assert_eq!(place.fine(&["status"])["installation"]["filling"], serde_json::json!([Target::Neo4j]));
    place.fine(&["run", "--drain"]);
    place.assert_equal(CHUNKS + 10);
    assert_eq!(place.nodes().await, CHUNKS as u64 + 10);
    assert_eq!(place.fine(&["status"])["installation"]["filling"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_cannot_move_from_the_embedded_file_to_postgres() {
    let mut place = Place::new(&[]).await;
    place.publish(10);
    place.fine(&["run", "--drain"]);
    place.configure(&[Role::Postgres, Role::Redis]);
    let error = place.refused(&["init"]);
    assert!(error.contains("records cannot be moved to PostgreSQL"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_a_recorded_set_is_adopted_by_init() {
    let place = Place::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    place.fine(&["init"]);
    place.publish(20);
    place.fine(&["run", "--drain"]);
    // An older version of the program records no set; the tables are made by `init`.
    place.sql("DELETE FROM chunk_sync.installation").await;
    place.forget_marks().await;
    assert!(place.refused(&["run"]).contains("chunk-sync init"));
    let adopted = place.fine(&["init"]);
    assert_eq!(adopted["installation"]["filling"], serde_json::json!([]));
    place.fine(&["run", "--drain"]);
    place.assert_equal(20);
}
