//! Installations with some of the servers, on real servers: PostgreSQL with Redis and Neo4j, Redis or Neo4j with embedded
//! rows, and changes of the set of stores; what the service does when PostgreSQL or its table changes, and what `doctor` and
//! the status page show meanwhile. Only the status page has a Qdrant here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "roles/columns.rs"]
mod columns;
#[path = "roles/doctor_postgres.rs"]
mod doctor_postgres;
#[path = "roles/environment.rs"]
mod environment;
#[path = "../../connectors/tests/postgres/own_server.rs"]
mod own_server;
#[path = "roles/page.rs"]
mod page;
#[path = "servers/proxy.rs"]
mod proxy;
#[path = "roles/restore.rs"]
mod restore;
#[path = "roles/switch_over.rs"]
mod switch_over;

use chunk_sync_model::Target;

use environment::{Environment, Role};

/// Number of chunks per test.
const CHUNKS: usize = 400;

/// Publishes, kills the service half-way, changes rows by SQL if they are in PostgreSQL, and compares the stores.
async fn carries_everything(environment: &Environment) {
    environment.fine(&["init"]);
    let service = environment.start();
    environment.publish(CHUNKS);
    environment.until_some_are_carried().await;
    service.kill();
    let service = environment.start();
    environment.settled();
    if environment.has(Role::Postgres) {
        environment.sql("UPDATE unified.chunks SET content = content || ' (changed by SQL)'").await;
        environment.until_captured().await;
    }
    service.terminate();
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(CHUNKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_redis_and_neo4j_lose_nothing_in_a_kill() {
    carries_everything(&Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_neo4j_lose_nothing_in_a_kill() {
    carries_everything(&Environment::new(&[Role::Postgres, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_neo4j_with_embedded_rows_lose_nothing_in_a_kill() {
    carries_everything(&Environment::new(&[Role::Redis, Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_with_embedded_rows_and_bus_loses_nothing_in_a_kill() {
    carries_everything(&Environment::new(&[Role::Neo4j]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_is_rejected_before_init() {
    let environment = Environment::new(&[Role::Postgres, Role::Redis]).await;
    let error = environment.refused(&["run"]);
    assert!(error.contains("chunk-sync init"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_set_is_rejected_with_both_sets_and_the_remedy() {
    let mut environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    environment.fine(&["init"]);
    environment.configure(&[Role::Postgres, Role::Redis]);
    for command in [&["run"][..], &["publish"], &["verify"], &["status"]] {
        let error = environment.refused(command);
        assert!(error.contains("names no store beside the rows, and the installation has neo4j (set 1)"), "{error}");
        assert!(error.contains("init --without neo4j"), "{error}");
    }
    let error = environment.refused(&["init"]);
    assert!(error.contains("init --without neo4j"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_installation_are_rejected() {
    let environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    environment.fine(&["init"]);
    let mut other = environment.neighbour(&[Role::Redis]).await;
    for command in [&["init"][..], &["run"]] {
        let error = other.refused(command);
        assert!(error.contains("the stream") && error.contains("belongs to installation"), "{error}");
        assert!(error.contains("DEL "), "{error}");
    }
    other.use_stream("elsewhere");
    other.configure(&[Role::Redis, Role::Neo4j]);
    let error = other.refused(&["init"]);
    assert!(error.contains("the database in Neo4j belongs to installation"), "{error}");
    // `doctor` reports it as well, before anything is created.
    let fresh = environment.neighbour(&[Role::Postgres, Role::Neo4j]).await;
    let output = fresh.program(&["doctor", "--problems"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("belongs to installation"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_removed_while_a_process_runs_and_filled_when_it_is_added_again() {
    let mut environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    environment.fine(&["init"]);
    environment.publish(CHUNKS);
    environment.fine(&["run", "--drain"]);
    let service = environment.start();
    // Only the service can carry this chunk: once it is carried, the service has read the set.
    environment.publish(CHUNKS + 1);
    environment.settled();
    environment.configure(&[Role::Postgres, Role::Redis]);
    let changed = environment.fine(&["init", "--without", "neo4j"]);
    assert_eq!(
        (&changed["installation"]["version"], &changed["installation"]["stores"]),
        (&2.into(), &serde_json::json!({}))
    );
    assert_eq!(environment.nodes().await, CHUNKS as u64 + 1, "the content of the store is kept");
    environment.publish(CHUNKS + 10);
    let error = service.ended();
    assert!(error.contains("its version is 2 now") && error.contains("started with version 1"), "{error}");
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(CHUNKS + 10);
    environment.configure(&[Role::Postgres, Role::Redis, Role::Neo4j]);
    assert!(environment.refused(&["run"]).contains("run `chunk-sync init` to add what is new"));
    let added = environment.fine(&["init"]);
    assert_eq!(added["installation"]["filling"], serde_json::json!([Target::Neo4j]));
    assert_eq!(environment.fine(&["status"])["installation"]["filling"], serde_json::json!([Target::Neo4j]));
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(CHUNKS + 10);
    assert_eq!(environment.nodes().await, CHUNKS as u64 + 10);
    assert_eq!(environment.fine(&["status"])["installation"]["filling"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_cannot_move_from_the_embedded_file_to_postgres() {
    let mut environment = Environment::new(&[]).await;
    environment.publish(10);
    environment.fine(&["run", "--drain"]);
    environment.configure(&[Role::Postgres, Role::Redis]);
    let error = environment.refused(&["init"]);
    assert!(error.contains("records cannot be moved to PostgreSQL"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_a_recorded_set_is_adopted_by_init() {
    let environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    environment.fine(&["init"]);
    environment.publish(20);
    environment.fine(&["run", "--drain"]);
    // An older version of the program records no set; the tables are made by `init`.
    environment.sql("DELETE FROM chunk_sync.installation").await;
    environment.forget_marks().await;
    assert!(environment.refused(&["run"]).contains("chunk-sync init"));
    let adopted = environment.fine(&["init"]);
    assert_eq!(adopted["installation"]["filling"], serde_json::json!([]));
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(20);
}
