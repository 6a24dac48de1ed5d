//! Rows that the running service cannot read or write for a while: nothing is deleted, and what happened meanwhile is carried.

use std::process::Command;

use serde_json::Value;

use crate::environment::Environment;

const CHUNKS: usize = 50;

/// A login that owns the table, is no superuser, and has no BYPASSRLS. All tests share it.
const LOGIN: &str = "chunk_sync_limited";

/// An installation whose service connects as [`LOGIN`].
struct Limited {
    environment: Environment,
    variables: [(&'static str, String); 2],
}

impl Limited {
    async fn new() -> Self {
        let environment = Environment::new().await;
        let login = format!(
            "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN REPLICATION PASSWORD 'pw';
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             CREATE EXTENSION IF NOT EXISTS vector; GRANT CREATE ON DATABASE chunk_sync_{} TO {LOGIN}",
            environment.name
        );
        environment.sql(&login).await;
        let (_, address) = environment.database.rsplit_once('@').unwrap();
        let url = format!("postgres://{LOGIN}:pw@{address}");
        let variables = [("CHUNK_SYNC__POSTGRES__URL", url), ("CHUNK_SYNC__SCRUB__INTERVAL", "1s".to_owned())];
        let limited = Self { environment, variables };
        limited.fine(&["init"]);
        limited.environment.publish(CHUNKS);
        limited.fine(&["run", "--drain"]);
        limited.environment.assert_equal(CHUNKS as u64);
        limited
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.program(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn fine(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Ends the sessions of the service: new ones get the changed settings.
    async fn reconnects(&self) {
        let of = format!("datname = current_database() AND usename = '{LOGIN}'");
        self.environment.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of}")).await;
    }
}

/// While `hide` is in force, the application updates a row, an event changes another, the service scrubs, and an operator
/// compares and backfills twice; the reports contain `refused`.
async fn every_chunk_stays(hide: &str, show: &str, refused: &str) {
    let limited = Limited::new().await;
    let environment = &limited.environment;
    let variables: Vec<(&str, &str)> = limited.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = environment.go_on(&[], &variables);
    environment.visible("capture", || environment.captured_by_somebody()).await;
    let ids = environment.ids().await;
    let database = format!("chunk_sync_{}", environment.name);
    let (hide, show) = (hide.replace("<database>", &database), show.replace("<database>", &database));
    environment.sql(&hide).await;
    limited.reconnects().await;
    let update = format!("UPDATE unified.chunks SET summary = 'of the owner' WHERE id = '{}'", ids[7]);
    environment.sql(&format!("BEGIN READ WRITE; {update}; COMMIT")).await;
    let mut event: Value = serde_json::from_str(&crate::environment::lines(1)[0]).unwrap();
    event["summary"] = "of an event".into();
    event["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
    environment.publish_lines(&[event.to_string()]);
    for command in [&["verify", "--repair"][..], &["backfill"], &["verify", "--repair"], &["backfill"]] {
        let output = limited.command(command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(refused), "{command:?}: {text}");
    }
    assert_eq!(environment.nodes().await, CHUNKS as u64);
    for id in &ids {
        assert!(environment.has_point(*id).await, "the point of {id} is gone");
    }
    assert_eq!(environment.count("SELECT count(*) FROM unified.chunks").await, CHUNKS as i64);
    environment.sql(&format!("BEGIN READ WRITE; {show}; COMMIT")).await;
    limited.reconnects().await;
    environment.visible("the update", || environment.point_is(ids[7], "summary", "of the owner")).await;
    let changed = event["id"].as_str().unwrap().parse().unwrap();
    environment.visible("the event", || environment.point_is(changed, "summary", "of an event")).await;
    environment.settled().await;
    run.terminate();
    environment.assert_equal(CHUNKS as u64);
    assert_eq!(environment.dead_count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_hidden_by_row_level_security_stay_in_every_store() {
    every_chunk_stays(
        "ALTER TABLE unified.chunks FORCE ROW LEVEL SECURITY; ALTER TABLE unified.chunks ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE unified.chunks DISABLE ROW LEVEL SECURITY",
        "row-level security",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_on_which_every_right_is_revoked_stay_in_every_store() {
    let revoke = format!("REVOKE ALL ON unified.chunks FROM {LOGIN}");
    let grant = format!("GRANT ALL ON unified.chunks TO {LOGIN}");
    every_chunk_stays(&revoke, &grant, "permission denied").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_read_only_for_a_while_loses_nothing() {
    every_chunk_stays(
        "ALTER DATABASE <database> SET default_transaction_read_only = on",
        "ALTER DATABASE <database> RESET default_transaction_read_only",
        "read-only",
    )
    .await;
}
