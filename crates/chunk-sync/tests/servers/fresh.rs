//! Servers on which nothing was installed: no command but `init` creates anything there.

use neo4rs::query;

use crate::environment::{Environment, lines};

const CONSTRAINTS: &str = "SHOW CONSTRAINTS YIELD name WHERE name STARTS WITH 'chunk_sync_' RETURN name";

/// The constraints of the service in the graph.
async fn constraints(environment: &Environment) -> Vec<String> {
    let mut rows = environment.graph.execute(query(CONSTRAINTS)).await.unwrap();
    let mut names = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        names.push(row.get("name").unwrap());
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_but_init_creates_an_object() {
    let environment = Environment::new().await;
    // Those of earlier tests.
    for name in constraints(&environment).await {
        environment.cypher(query(&format!("DROP CONSTRAINT {name}"))).await;
    }
    let input = environment.log().with_file_name("in.jsonl");
    std::fs::write(&input, lines(1).remove(0)).unwrap();
    let input = input.to_str().unwrap();
    for command in [
        &["status"][..],
        &["verify"],
        &["verify", "--repair"],
        &["verify", "--repair", "--absent", "delete", "--orphans", "delete"],
        &["backfill"],
        &["conflicts", "list"],
        &["dead", "list"],
        &["erase", "00000000-0000-0000-0000-000000000001"],
        &["publish", input],
        &["doctor"],
        &["run", "--drain"],
        &["init", "--dry-run"],
    ] {
        let output = environment.program(command).output().unwrap();
        assert!(output.status.code().is_some(), "{command:?} was killed");
        assert_eq!(environment.tables().await, Vec::<String>::new(), "{command:?} created tables");
        let objects = "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots
            WHERE database = current_database()) + (SELECT count(*) FROM pg_namespace WHERE nspname IN ('unified', 'chunk_sync'))";
        assert_eq!(environment.count(objects).await, 0, "{command:?} created objects in PostgreSQL");
        let collections = environment.vectors.list_collections().await.unwrap().collections;
        assert!(collections.is_empty(), "{command:?} created {collections:?}");
        assert_eq!(constraints(&environment).await, Vec::<String>::new(), "{command:?} created constraints");
        assert_eq!(environment.nodes().await, 0);
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}*", environment.name))
            .query_async(&mut environment.redis.clone())
            .await
            .unwrap();
        assert_eq!(keys, Vec::<String>::new(), "{command:?} created keys");
    }
    environment.fine(&["init"]);
    assert_eq!(constraints(&environment).await.len(), 4);
}
