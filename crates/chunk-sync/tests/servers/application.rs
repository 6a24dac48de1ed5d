//! The table belongs to an application as well: its triggers, its constraints, and its own writes.

use uuid::Uuid;

use crate::environment::{Environment, lines};

const TRIGGER: &str = "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        NEW.updated_at = clock_timestamp(); NEW.metadata = NEW.metadata || '{\"seen\": \"by the database\"}';
        RETURN NEW; END$$;
    CREATE TRIGGER t BEFORE INSERT OR UPDATE ON unified.chunks FOR EACH ROW EXECUTE FUNCTION t();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_hold_what_triggers_made_of_the_rows() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.sql(TRIGGER).await;
    environment.publish(20);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(20);
    let run = environment.go_on(&[], &[]);
    environment.sql("UPDATE unified.chunks SET summary = 'of the application'").await;
    for id in environment.ids().await {
        environment.visible("the update", || environment.point_is(id, "summary", "of the application")).await;
        environment.visible("what the trigger added", || environment.point_says(id, "seen", "by the database")).await;
    }
    environment.settled().await;
    run.terminate();
    environment.assert_equal(20);
    let versions = "SELECT sum(sync_version)::bigint FROM chunk_sync.records";
    let before = environment.count(versions).await;
    environment.fine(&["run", "--drain"]);
    assert_eq!(environment.count(versions).await, before, "rows were written again without a change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_and_deletes_of_the_application_work_whatever_the_replica_identity_is() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(5);
    environment.fine(&["run", "--drain"]);
    environment.sql("ALTER TABLE unified.chunks REPLICA IDENTITY FULL").await;
    environment.fine(&["init"]);
    let run = environment.go_on(&[], &[]);
    let ids = environment.ids().await;
    environment.sql("UPDATE unified.chunks SET metadata = metadata || '{\"topic\": \"tea\"}'").await;
    for id in &ids {
        environment.visible("the update", || environment.point_says(*id, "topic", "tea")).await;
    }
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{}'", ids[0])).await;
    environment.visible("the delete", || async { !environment.has_point(ids[0]).await }).await;
    environment.settled().await;
    run.terminate();
    environment.assert_equal(4);
    environment.sql("ALTER TABLE unified.chunks REPLICA IDENTITY NOTHING").await;
    for command in [&["init"][..], &["run", "--drain"]] {
        let output = environment.program(command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("REPLICA IDENTITY DEFAULT"), "{command:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_arrives_a_moment_later_is_waited_for() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment
        .sql(
            "CREATE TABLE projects (id uuid PRIMARY KEY);
             ALTER TABLE unified.chunks ADD FOREIGN KEY (project_id) REFERENCES projects (id) DEFERRABLE INITIALLY DEFERRED",
        )
        .await;
    let (late, never) = (Uuid::new_v4(), Uuid::new_v4());
    let lines: Vec<String> = lines(3)
        .iter()
        .zip([None, Some(late), Some(never)])
        .map(|(line, project)| {
            let mut chunk: serde_json::Value = serde_json::from_str(line).unwrap();
            chunk["organization"] = serde_json::json!({});
            if let Some(project) = project {
                chunk["organization"]["project_id"] = project.to_string().into();
            }
            chunk.to_string()
        })
        .collect();
    let run = environment.go_on(&[], &[]);
    environment.publish_lines(&lines);
    environment.visible("the chunk without a parent", || async { environment.ids().await.len() == 1 }).await;
    environment.sql(&format!("INSERT INTO projects VALUES ('{late}')")).await;
    environment.visible("the late one", || async { environment.ids().await.len() == 2 }).await;
    environment.visible("the dead letter", || async { !environment.dead().await.is_empty() }).await;
    let dead = environment.dead().await;
    assert_eq!((dead.len(), dead[0]["field"].as_str()), (1, "organization.project_id"), "{dead:?}");
    environment.settled().await;
    run.terminate();
    environment.assert_equal(2);
}

/// The change cannot be carried out, so no store shows it, and it is not undone elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_writes_a_trigger_skips_keeps_its_state_in_every_store() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    // Enough results for a verdict that others succeed.
    environment.publish(60);
    let run = environment.go_on(&[], &[]);
    environment.visible("the nodes", || async { environment.nodes().await == 60 }).await;
    environment.settled().await;
    let chunks: Vec<serde_json::Value> = lines(60).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |number: usize| -> Uuid { chunks[number]["id"].as_str().unwrap().parse().unwrap() };
    let (skipped, other) = (of(0), of(1));
    let trigger = format!(
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
         CREATE TRIGGER skip BEFORE UPDATE OR DELETE ON unified.chunks
             FOR EACH ROW WHEN (OLD.id = '{skipped}') EXECUTE FUNCTION skip();"
    );
    environment.sql(&trigger).await;
    let before = environment.contents().await;
    let changed = |number: usize, content: &str| {
        let mut chunk = chunks[number].clone();
        chunk["content"] = content.into();
        chunk["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
        chunk.to_string()
    };
    let deletion = serde_json::json!({
        "event_id": Uuid::new_v4(), "type": "delete", "source": "claude", "chunk": { "id": skipped },
        "targets": ["postgres", "qdrant", "neo4j"], "timestamp": jiff::Timestamp::now().to_string(),
    });
    environment.publish_lines(&[
        changed(0, "a change that the trigger skips"),
        deletion.to_string(),
        changed(1, "a change of another chunk"),
    ]);
    environment.visible("the dead letters", || async { environment.dead_count().await == 2 }).await;
    environment.visible("the other", || environment.point_is(other, "content", "a change of another chunk")).await;
    environment.settled().await;
    for letter in environment.dead().await {
        assert!(letter["chunk"].contains(&skipped.to_string()) && letter["error"].contains("trigger"), "{letter:?}");
    }
    assert_eq!(environment.contents().await[&skipped], before[&skipped]);
    assert!(environment.point_is(skipped, "content", &before[&skipped]).await && environment.has_node(skipped).await);
    assert_eq!(environment.count("SELECT count(*) FROM chunk_sync.conflicts").await, 0);
    environment.assert_equal(60);
    environment.sql("DROP TRIGGER skip ON unified.chunks").await;
    environment.publish_lines(&[changed(0, "a change that is carried out")]);
    let carried = || environment.point_is(skipped, "content", "a change that is carried out");
    environment.visible("the change", carried).await;
    environment.settled().await;
    run.terminate();
    environment.assert_equal(60);
}
