//! The findings of `examine`. It changes nothing, so these tests do not wait for exclusive use of the database.

use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, examine};
use chunk_sync_engine::ports::Level;
use tokio::net::TcpListener;

use crate::fixture::config;

#[tokio::test]
async fn a_working_server_yields_a_finding_for_each_subject() {
    let found = examine(&config()).await;
    assert!(found.iter().all(|finding| finding.level <= Level::Warning), "{found:?}");
    let subjects: Vec<&str> = found.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, ["link", "server", "clock", "rights", "constraints"]);
}

#[tokio::test]
async fn a_refused_login_and_an_unreachable_server_are_reported() {
    let level = async |config: &Neo4jConfig| examine(config).await.remove(1).level;
    assert_eq!(level(&Neo4jConfig { password: "pl4nted".into(), ..config() }).await, Level::Failed);
    // The system completes the connection; no process responds on it.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("bolt://{}", mute.local_addr().unwrap());
    let silent = Neo4jConfig { url, timeout: Duration::from_millis(300), ..config() };
    assert_eq!(level(&silent).await, Level::Unreachable);
    drop(mute);
    assert_eq!(level(&silent).await, Level::Unreachable);
}
