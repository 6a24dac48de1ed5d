//! Failures, and the fault classes under which the store reports them.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore, examine};
use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, FaultClass, Level, Projection};
use chunk_sync_testkit::Fixture;
use neo4rs::query;

use super::fixture::{Neo4j, config, draft};
use super::middlebox::{Act, HELLO, RUN, Server};

async fn class(config: &Neo4jConfig) -> FaultClass {
    Neo4jStore::new(config).unwrap().check().await.unwrap_err().class
}

#[tokio::test]
async fn each_failure_to_connect_has_its_fault_class() {
    // The system completes the connection; no process responds on it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mute = Neo4jConfig { url: format!("bolt://127.0.0.1:{port}"), timeout: Duration::from_millis(300), ..config() };
    assert_eq!(class(&mute).await, FaultClass::Timeout);
    drop(listener);
    assert_eq!(class(&mute).await, FaultClass::Unavailable);
    assert_eq!(class(&Neo4jConfig { password: "wrong".into(), ..config() }).await, FaultClass::Denied);
    for scheme in ["bolt", "neo4j"] {
        let url = config().url.replacen("bolt", scheme, 1);
        let absent = Neo4jConfig { database: "none".into(), url, ..config() };
        let fault = Neo4jStore::new(&absent).unwrap().check().await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
        assert!(fault.message.contains("`none` does not exist; the server has `neo4j`"), "{fault}");
    }
    for url in ["bolt+x://localhost", "http://localhost", "localhost:7687", "bolt://me:hunter2@localhost"] {
        let fault = Neo4jStore::new(&Neo4jConfig { url: url.into(), ..config() }).err().unwrap();
        assert_eq!(fault.class, FaultClass::Misconfigured, "{url}");
        assert!(!fault.to_string().contains("hunter2"));
    }
    Neo4jStore::new(&config()).unwrap().check().await.unwrap();
}

#[tokio::test]
async fn neither_debug_output_nor_errors_contain_the_password() {
    let config = Neo4jConfig { password: "hunter2".into(), ..config() };
    assert!(!format!("{config:?}").contains("hunter2"));
    let fault = Neo4jStore::new(&config).unwrap().check().await.unwrap_err();
    assert!(!fault.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_write_that_times_out_leaves_no_lock_behind() {
    let neo4j = Neo4j::fresh().await;
    neo4j.write(&[draft(1).at(1)]).await;
    let mut other = neo4j.raw.start_txn().await.unwrap();
    other.run(query("MATCH (c:Chunk) SET c.id = c.id")).await.unwrap();
    let hasty = Neo4jStore::new(&Neo4jConfig { timeout: Duration::from_millis(500), ..config() }).unwrap();
    let applied = hasty.apply(&[draft(1).at(2)]).await;
    assert!(matches!(&applied[0], Applied::Failed(fault) if fault.class == FaultClass::Timeout), "{applied:?}");
    other.rollback().await.unwrap();
    neo4j.write(&[draft(1).at(3)]).await;
    assert!(matches!(hasty.apply(&[draft(1).at(4)]).await[0], Applied::Written));
}

#[tokio::test]
async fn a_cancelled_write_leaves_no_lock_behind() {
    let neo4j = Neo4j::fresh().await;
    neo4j.write(&[draft(1).at(1)]).await;
    let mut other = neo4j.raw.start_txn().await.unwrap();
    other.run(query("MATCH (c:Chunk) SET c.id = c.id")).await.unwrap();
    let store = Arc::new(Neo4jStore::new(&config()).unwrap());
    let task = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.apply(&[draft(1).at(2)]).await }
    });
    let waiting = "SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked' RETURN status AS value";
    while neo4j.texts(waiting).await.is_empty() {
        assert!(!task.is_finished());
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    other.rollback().await.unwrap();
    neo4j.write(&[draft(1).at(3)]).await;
}

/// Runs `statements` on an empty database without our constraints, and asserts that `init` refuses and `doctor` fails in the
/// same words, which contain these. Then runs `remedy`, after which `init` succeeds.
async fn in_the_way(statements: &[&str], words: &[&str], remedy: &str) {
    let neo4j = Neo4j::fresh().await;
    for label in ["chunk", "entity", "project", "dataset"] {
        neo4j.write_directly(&format!("DROP CONSTRAINT chunk_sync_{label}_id IF EXISTS")).await;
    }
    for statement in statements {
        neo4j.write_directly(statement).await;
    }
    let refused = neo4j.store.prepare().await;
    let found = examine(&config()).await;
    neo4j.write_directly(remedy).await;
    neo4j.write_directly("MATCH (n) DETACH DELETE n").await;
    let prepared = neo4j.store.prepare().await;
    let fault = refused.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    let finding = found.iter().find(|finding| finding.subject == "constraints").unwrap();
    assert_eq!(finding.level, Level::Failed, "{finding:?}");
    assert_eq!(fault.message, format!("{}; {}", finding.text, finding.remedy.as_deref().unwrap()));
    for words in words {
        assert!(fault.message.contains(words), "{words}: {fault}");
    }
    prepared.unwrap();
}

#[tokio::test]
async fn a_plain_index_in_the_way_is_named_with_the_statement_that_drops_it() {
    let index = "CREATE INDEX `theirs too` FOR (n:Chunk) ON (n.id)";
    in_the_way(&[index], &["`theirs too` on Chunk.id", "DROP INDEX `theirs too`"], "DROP INDEX `theirs too`").await;
}

#[tokio::test]
async fn duplicates_in_the_way_are_named_with_the_statement_that_removes_them() {
    let nodes = "CREATE (:Entity {id: 'e1'}), (:Entity {id: 'e1'}), (:Entity {id: 'e2'})";
    let remedy = "MATCH (n:Entity) WITH n.id AS id, collect(n) AS nodes WHERE size(nodes) > 1 UNWIND nodes[1..] AS other \
                  DETACH DELETE other";
    in_the_way(&[nodes], &["several Entity nodes have the same id: `e1`", remedy], remedy).await;
}

#[tokio::test]
async fn another_constraint_or_index_with_the_name_of_ours_is_named() {
    let other = "CREATE CONSTRAINT chunk_sync_project_id FOR (n:Other) REQUIRE n.name IS UNIQUE";
    let remedy = "DROP CONSTRAINT chunk_sync_project_id";
    in_the_way(&[other], &["another constraint has the name", remedy], remedy).await;
    let other = "CREATE INDEX chunk_sync_project_id FOR (n:Other) ON (n.name)";
    let remedy = "DROP INDEX chunk_sync_project_id";
    in_the_way(&[other], &["another index has the name", remedy], remedy).await;
}

#[tokio::test]
async fn a_broken_index_of_another_program_does_not_matter() {
    let neo4j = Neo4j::fresh().await;
    // A value that is too long for an index makes it fail while it is filled.
    neo4j.write_directly("CREATE (:Theirs {text: reduce(t = 'x', i IN range(1, 16) | t + t)})").await;
    neo4j.write_directly("CREATE INDEX theirs_broken FOR (n:Theirs) ON (n.text)").await;
    let failed =
        "SHOW INDEXES YIELD name, state WHERE name = 'theirs_broken' AND state = 'FAILED' RETURN state AS value";
    let mut looks = 0;
    while neo4j.texts(failed).await.is_empty() {
        looks += 1;
        assert!(looks < 10_000, "the index did not fail");
    }
    let prepared = neo4j.store.prepare().await;
    neo4j.write_directly("DROP INDEX theirs_broken").await;
    prepared.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_not_repeated_at_once() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let server = Server::before(config().url, move |tag: u8, _: &[u8]| {
        counted.fetch_add(usize::from(tag == HELLO), Ordering::Relaxed);
        Act::Pass
    });
    // A user of this test alone: the others must not be locked.
    let user = "another-user".to_owned();
    let wrong = Neo4jConfig { url: format!("bolt://{}", server.await), user, password: "wrong".into(), ..config() };
    let store = Neo4jStore::new(&wrong).unwrap();
    for _ in 0..20 {
        let fault = store.check().await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Denied);
        assert!(fault.message.contains("Unauthorized") && fault.message.contains("next attempt"), "{fault}");
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_transaction_above_the_limit_of_memory_is_divided_and_one_chunk_above_it_is_rejected_alone() {
    let _turn = Neo4j::fresh().await;
    let server = Server::before(config().url, |tag: u8, message: &[u8]| match (tag, message.len()) {
        (RUN, 4_000..) => {
            let code = "Neo.TransientError.General.TransactionOutOfMemoryError";
            Act::Fail(code, "The memory pool limit was exceeded")
        }
        _ => Act::Pass,
    });
    let store = Neo4jStore::new(&Neo4jConfig { url: format!("bolt://{}", server.await), ..config() }).unwrap();
    let mut writes: Vec<_> = (1..40).map(|number| draft(number).entity("e", "an entity", 0.5).at(1)).collect();
    writes.push(draft(50).entity("f", &"x".repeat(5_000), 0.5).at(1));
    let answers = apply_divided(&store, &writes, || true).await;
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(|answer| matches!(answer, Applied::Written)), "{others:?}");
    let Applied::Failed(fault) = last else { panic!("{last:?}") };
    assert_eq!(fault.class, FaultClass::Rejected, "{fault}");
    assert!(fault.message.contains("db.memory.transaction.max"), "{fault}");
}
