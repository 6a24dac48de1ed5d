//! PostgreSQL is restored to a backup, as the guide for operations describes it.

use crate::environment::{Environment, Role, execute, lines, variable};

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
