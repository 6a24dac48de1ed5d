//! Rows that disappear without having been deleted: the service as a user runs it destroys nothing in the other stores.

use serde_json::Value;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::environment::{Environment, lines, variable};

/// An installation whose stores hold this many chunks.
async fn with(chunks: usize) -> Environment {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(chunks);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(chunks as u64);
    environment
}

/// Asserts that the graph and the points still hold all chunks.
async fn nothing_is_destroyed(environment: &Environment, ids: &[Uuid]) {
    assert_eq!(environment.nodes().await, ids.len() as u64);
    for id in ids {
        assert!(environment.has_point(*id).await, "the point of {id} is gone");
    }
}

/// Runs the program and returns its exit code and everything that it printed.
fn outcome(environment: &Environment, arguments: &[&str]) -> (Option<i32>, String) {
    let output = environment.program(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn json(environment: &Environment, arguments: &[&str]) -> Value {
    let output = environment.program(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Lets the second look be due at once.
async fn age_the_notes(environment: &Environment) {
    environment.sql("UPDATE chunk_sync.absent SET noted_at = noted_at - interval '11 minutes'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_table_is_named_and_no_command_creates_it_or_deletes_a_chunk() {
    let environment = with(12).await;
    let ids = environment.ids().await;
    environment.sql("DROP TABLE unified.chunks").await;
    for command in [&["status"][..], &["verify"], &["verify", "--repair"], &["backfill"], &["run", "--drain"]] {
        let (code, text) = outcome(&environment, command);
        // Without a change to carry there is nothing for `run` to fail at.
        assert!(code.is_some_and(|code| code > 1) || command[0] == "run", "{command:?} ended with {code:?}: {text}");
        assert!(text.contains("gone") || command == ["status"], "{command:?}: {text}");
    }
    let (code, text) = outcome(&environment, &["doctor"]);
    assert!(code == Some(1) && text.contains("is gone"), "{text}");
    let (code, text) = outcome(&environment, &["init"]);
    assert!(code == Some(2) && text.contains("--adopt"), "{text}");
    assert_eq!(environment.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'unified'").await, 0);
    nothing_is_destroyed(&environment, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_swapped_by_rename_is_reported_and_deletes_nothing_until_it_is_adopted() {
    let environment = with(40).await;
    let ids = environment.ids().await;
    environment
        .sql(
            "CREATE TABLE unified.chunks_new (LIKE unified.chunks INCLUDING ALL);
             INSERT INTO unified.chunks_new SELECT * FROM unified.chunks ORDER BY id LIMIT 38;
             BEGIN;
             ALTER TABLE unified.chunks RENAME TO chunks_old;
             ALTER TABLE unified.chunks_new RENAME TO chunks;
             COMMIT",
        )
        .await;
    environment.found(&["verify", "--repair", "--json"]);
    age_the_notes(&environment).await;
    environment.found(&["verify", "--repair", "--json"]);
    let (code, text) = outcome(&environment, &["verify", "--repair", "--absent", "delete"]);
    assert!(code.is_some_and(|code| code > 0) && text.contains("another table"), "{text}");
    nothing_is_destroyed(&environment, &ids).await;
    let (code, text) = outcome(&environment, &["init"]);
    assert!(code == Some(2) && text.contains("another table") && text.contains("--adopt"), "{text}");
    environment.fine(&["init", "--adopt"]);
    environment.fine(&["verify", "--repair", "--absent", "delete"]);
    environment.assert_equal(38);
    // The adopted table is captured, and versions are above every one used before.
    let id = environment.ids().await[0];
    let run = environment.start();
    environment.visible("capture", || environment.captured_by_somebody()).await;
    environment.sql(&format!("UPDATE unified.chunks SET summary = 'after the swap' WHERE id = '{id}'")).await;
    environment.visible("the change", || environment.point_is(id, "summary", "after the swap")).await;
    run.kill();
}

/// An event for a chunk without a row, while another table has the name for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_created_while_another_table_has_the_name_gets_its_row_in_the_table_on_record() {
    let environment = with(5).await;
    let run = environment.start();
    environment.visible("capture", || environment.captured_by_somebody()).await;
    environment
        .sql(
            "BEGIN;
             CREATE TABLE unified.chunks_new (LIKE unified.chunks INCLUDING ALL);
             ALTER TABLE unified.chunks RENAME TO chunks_old;
             ALTER TABLE unified.chunks_new RENAME TO chunks;
             COMMIT",
        )
        .await;
    environment.publish_lines(&lines(8));
    let waits = "SELECT count(*) FROM chunk_sync.waiting WHERE error LIKE '%another table%'";
    environment.visible("the waiting events", || async { environment.count(waits).await >= 3 }).await;
    environment.settled().await;
    assert_eq!(environment.nodes().await, 5, "a store holds no chunk before it has a row");
    environment.sql("BEGIN; DROP TABLE unified.chunks; ALTER TABLE unified.chunks_old RENAME TO chunks; COMMIT").await;
    environment.visible("the rows", || async { environment.ids().await.len() == 8 }).await;
    environment.visible("the nodes", || async { environment.nodes().await == 8 }).await;
    run.kill();
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_hidden_from_capture_are_never_deleted_and_a_deliberate_deletion_is_carried_out() {
    let environment = with(12).await;
    let ids = environment.ids().await;
    // Deleted without a trace in the log, as by another table or a restore of rows alone.
    environment
        .sql(
            "ALTER PUBLICATION unified_chunks_pub_x DROP TABLE unified.chunks"
                .replace("_x", &format!("_{}", environment.name))
                .as_str(),
        )
        .await;
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{}'", ids[3])).await;
    environment
        .sql(&format!("ALTER PUBLICATION unified_chunks_pub_{} ADD TABLE unified.chunks (id)", environment.name))
        .await;
    for _ in 0..2 {
        let report = environment.found(&["verify", "--repair", "--json"]);
        assert_eq!(report["repair"]["plan"][0]["action"], "absent", "{report}");
        age_the_notes(&environment).await;
    }
    nothing_is_destroyed(&environment, &ids).await;
    let plan = environment.found(&["verify", "--repair", "--absent", "delete", "--dry-run", "--json"]);
    assert_eq!(plan["repair"]["plan"][0]["action"], "delete", "{plan}");
    nothing_is_destroyed(&environment, &ids).await;
    environment.fine(&["verify", "--repair", "--absent", "delete"]);
    environment.assert_equal(11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_bulk_delete_passes_at_once_and_a_truncate_beyond_the_limit_is_held() {
    let environment = with(30).await;
    let run = environment.start();
    environment.visible("capture", || environment.captured_by_somebody()).await;
    let half = environment.ids().await;
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id < '{}'", half[15])).await;
    environment.visible("the deletion of half", || async { environment.nodes().await == 15 }).await;
    environment.sql("TRUNCATE unified.chunks").await;
    let held = "SELECT count(*) FROM chunk_sync.absent WHERE cause = 'truncated'";
    environment.visible("the notes", || async { environment.count(held).await == 15 }).await;
    environment.settled().await;
    assert_eq!(environment.nodes().await, 15, "more than a tenth is not deleted unasked");
    run.kill();
    environment.fine(&["verify", "--repair", "--absent", "delete"]);
    environment.assert_equal(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restored_to_an_earlier_copy_deletes_nothing_and_overwrites_no_newer_state() {
    let environment = with(20).await;
    let ids = environment.ids().await;
    let url = variable("CHUNK_SYNC_TEST_PG18_URL");
    let (name, copy) = (format!("chunk_sync_{}", environment.name), format!("chunk_sync_{}_copy", environment.name));
    let server = async |statement: String| {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&statement).await.unwrap();
    };
    let end = |name: &str| format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    server(end(&name)).await;
    server(format!("CREATE DATABASE {copy} TEMPLATE {name}")).await;
    // After the backup: new chunks that the copy lacks, and changes of those that it has.
    environment.publish_lines(&crate::environment::lines(30)[20..]);
    environment.sql("UPDATE unified.chunks SET content = 'changed after the backup', updated_at = now()").await;
    environment.fine(&["run", "--drain"]);
    let later = environment.ids().await;
    assert_eq!(later.len(), 30);
    // The slot belongs to the database that is dropped.
    server(format!("SELECT pg_drop_replication_slot('chunk_sync_slot_{}')", environment.name)).await;
    server(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    server(format!("ALTER DATABASE {copy} RENAME TO {name}")).await;
    let run = environment.start();
    let suspected = "SELECT count(suspicion) FROM chunk_sync.recorded_table";
    environment.visible("the suspicion", || async { environment.count(suspected).await == 1 }).await;
    run.kill();
    nothing_is_destroyed(&environment, &later).await;
    let status = json(&environment, &["status", "--json"]);
    assert!(status.to_string().contains("restore"), "{status}");
    environment.fine(&["init", "--adopt"]);
    let report = environment.found(&["verify", "--json"]);
    assert_eq!(report["stores"]["qdrant"]["orphaned"], 10, "what only the stores have is listed: {report}");
    nothing_is_destroyed(&environment, &later).await;
    assert_eq!(environment.ids().await, ids);
    // The adopted rows decide, under versions above those that the stores have.
    let run = environment.start();
    let repaired = environment.found(&["verify", "--repair", "--json"]);
    assert_eq!(repaired["repair"]["repaired"], 20, "{repaired}");
    nothing_is_destroyed(&environment, &later).await;
    environment.fine(&["verify", "--repair", "--orphans", "delete"]);
    environment.assert_equal(20);
    run.kill();
}
