//! What an examination finds of a server. It changes nothing, and takes no turn.

use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, examine};
use chunk_sync_engine::ports::Level;
use tokio::net::TcpListener;

use crate::fixture::config;

#[tokio::test]
async fn a_server_is_looked_at() {
    let found = examine(&config()).await;
    assert!(found.iter().all(|finding| finding.level <= Level::Warning), "{found:?}");
    let subjects: Vec<&str> = found.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, ["server", "clock", "rights", "constraints"]);
}

#[tokio::test]
async fn whoever_lets_nobody_in_or_does_not_answer_is_said() {
    let level = async |config: &Neo4jConfig| examine(config).await.remove(0).level;
    assert_eq!(level(&Neo4jConfig { password: "pl4nted".into(), ..config() }).await, Level::Failed);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("bolt://{}", nobody.local_addr().unwrap());
    let silent = Neo4jConfig { url, timeout: Duration::from_millis(300), ..config() };
    assert_eq!(level(&silent).await, Level::Unreachable);
    drop(nobody);
    assert_eq!(level(&silent).await, Level::Unreachable);
}
