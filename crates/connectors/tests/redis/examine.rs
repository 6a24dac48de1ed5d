//! Findings of `examine` about a stream; it creates none.

use chunk_sync_connectors::redis::{RedisConfig, examine};
use chunk_sync_engine::ports::{Finding, Level};
use tokio::net::TcpListener;

use crate::surroundings::{bus, config, foreign_client, shared_url};

async fn problems(config: &RedisConfig) -> Vec<Finding> {
    examine(config).await.into_iter().filter(|finding| finding.level > Level::Ok).collect()
}

fn seen(found: &[Finding]) -> Vec<(&'static str, Level)> {
    found.iter().map(|finding| (finding.subject, finding.level)).collect()
}

#[tokio::test]
async fn a_missing_group_and_further_groups_are_warnings() {
    let config = config(&shared_url());
    for _ in 0..2 {
        let found = problems(&config).await;
        assert_eq!(seen(&found), [("group", Level::Warning)], "{found:?}");
    }
    bus(&config).await;
    assert_eq!(problems(&config).await, []);
    let mut another = redis::cmd("XGROUP");
    another.arg("CREATE").arg(&config.stream).arg("others").arg(0);
    another.exec_async(&mut foreign_client(&shared_url()).await).await.unwrap();
    assert_eq!(seen(&problems(&config).await), [("groups", Level::Warning)]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://:pl4nted@{}", nobody.local_addr().unwrap());
    let config = RedisConfig { answer_within: std::time::Duration::from_millis(300), ..config(&url) };
    assert_eq!(seen(&problems(&config).await), [("server", Level::Unreachable)]);
    drop(nobody);
    let found = problems(&config).await;
    assert_eq!(seen(&found), [("server", Level::Unreachable)]);
    assert!(!format!("{found:?}").contains("pl4nted"));
}
