//! PostgreSQL is restored to a backup, as the guide for operations describes it.

use crate::environment::{Environment, Role, execute, lines, variable};
use crate::own_server::OwnServer;
use crate::switch_over::RULES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_is_accepted_for_good_by_one_adoption() {
    let environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
    environment.fine(&["init"]);
    environment.publish(20);
    environment.fine(&["run", "--drain"]);
    let server = variable("PG18_URL");
    let (name, backup) = (format!("chunk_sync_{}", environment.name), format!("chunk_sync_{}_b", environment.name));
    execute(&server, &format!("CREATE DATABASE {backup} TEMPLATE {name}")).await;
    // Changes after the backup; the log directory and Redis note values that the backup lacks.
    environment.sql("UPDATE unified.chunks SET summary = 'after the backup', updated_at = now()").await;
    environment.publish_lines(&lines(25)[20..]);
    environment.fine(&["run", "--drain"]);
    let slot = chunk_sync_testkit::drop_slot(&environment.name);
    execute(&server, &slot).await;
    execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    execute(&server, &format!("ALTER DATABASE {backup} RENAME TO {name}")).await;
    environment.fine(&["init", "--adopt"]);
    let service = environment.start_with(&[]);
    environment
        .count_reaches("SELECT count(*) FROM chunk_sync.beats WHERE inserted_at > now() - interval '1 s'", 1)
        .await;
    let suspicion = environment.count("SELECT count(suspicion) FROM chunk_sync.recorded_table").await;
    assert_eq!(suspicion, 0, "the adopted database counts as restored again");
    service.terminate();
    let report = environment.repaired();
    assert_eq!(
        (&report["repair"]["repaired"], &report["stores"]["neo4j"]["orphaned"]),
        (&20.into(), &5.into()),
        "{report}"
    );
    environment.fine(&["verify", "--repair", "--orphans", "delete"]);
    environment.assert_equal(20);
}

/// The data directory goes back to a copy, so server, database and table are the same as before. The value that is noted
/// elsewhere reveals it: in the directory of the log, or in Redis if another process with another directory continues.
async fn a_copy_put_back_is_noticed(roles: &[Role], variables: &[(&str, &str)]) {
    let logical = ["wal_level=logical"];
    let mut server = OwnServer::new(RULES);
    server.start(&logical).await;
    let mut environment = Environment::new(roles).await;
    environment.use_database(server.url("postgres"));
    environment.fine(&["init"]);
    environment.publish(20);
    environment.fine(&["run", "--drain"]);
    server.stop();
    let copy = server.copied();
    server.start(&logical).await;
    environment.sql("UPDATE unified.chunks SET summary = 'after the copy', updated_at = now()").await;
    environment.publish_lines(&lines(25)[20..]);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(25);
    let before = environment.versions().await;
    server.stop();
    server.put_back(&copy);
    server.start(&logical).await;
    assert_eq!(environment.count("SELECT count(*) FROM unified.chunks").await, 20);
    let service = environment.start_with(variables);
    let suspicion = "SELECT count(*) FROM chunk_sync.recorded_table WHERE suspicion LIKE '%lacks the value%'";
    environment.count_reaches(suspicion, 1).await;
    environment.repaired();
    service.terminate();
    assert_eq!(environment.versions().await, before, "a newer state was overwritten or deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_reveals_that_the_data_directory_was_put_back() {
    a_copy_put_back_is_noticed(&[Role::Postgres, Role::Neo4j], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_reveals_that_the_data_directory_was_put_back() {
    let other = tempfile::TempDir::new().unwrap();
    let log = other.path().to_str().unwrap();
    a_copy_put_back_is_noticed(&[Role::Postgres, Role::Redis, Role::Neo4j], &[("CHUNK_SYNC__WAL__DIR", log)]).await;
}
