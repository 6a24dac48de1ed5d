//! Failures, and the fault classes under which the store reports them.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore, statements};
use chunk_sync_engine::ports::{Applied, FaultClass, Projection};
use chunk_sync_testkit::Fixture;
use neo4rs::query;

use super::fixture::{Neo4j, config, draft};

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
    assert_eq!(class(&Neo4jConfig { database: "none".into(), ..config() }).await, FaultClass::Misconfigured);
    for url in ["bolt+ssc://localhost", "http://localhost", "localhost:7687", "bolt://me:hunter2@localhost"] {
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

#[tokio::test]
async fn another_constraint_with_the_name_of_ours_is_refused() {
    let neo4j = Neo4j::fresh().await;
    assert_eq!(statements().count(), 5);
    neo4j.write_directly("DROP CONSTRAINT chunk_sync_project_id").await;
    neo4j.write_directly("CREATE CONSTRAINT chunk_sync_project_id FOR (n:Other) REQUIRE n.name IS UNIQUE").await;
    let fault = neo4j.store.prepare().await.unwrap_err();
    neo4j.write_directly("DROP CONSTRAINT chunk_sync_project_id").await;
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    neo4j.store.prepare().await.unwrap();
}

#[tokio::test]
async fn duplicate_ids_are_refused_and_the_error_names_the_label() {
    let neo4j = Neo4j::fresh().await;
    neo4j.write_directly("DROP CONSTRAINT chunk_sync_entity_id").await;
    neo4j.write_directly("CREATE (:Entity {id: 'twice'}), (:Entity {id: 'twice'})").await;
    let fault = neo4j.store.prepare().await.unwrap_err();
    neo4j.write_directly("MATCH (e:Entity) DELETE e").await;
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    assert!(fault.message.contains("Entity"), "{fault}");
    neo4j.store.prepare().await.unwrap();
}
