//! A write that one process has sent to Qdrant and that arrives after the next process has written a newer version.
//!
//! A proxy before Qdrant lets the process read the version that Qdrant holds, and holds back the write. Then the
//! process is suspended, so that it loses the lease. The scrubber is off, so that it corrects nothing.

use std::time::{Duration, Instant};

use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{GetPointsBuilder, PointId};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::environment::{Bus, Environment, content_of};
use crate::proxy::{LinkState, Proxy, port_of};

/// How long a late write may stay visible.
const VISIBLE_FOR: Duration = Duration::from_secs(60);

/// Limit of the time until the write is on its way.
const SENT_WITHIN: Duration = Duration::from_secs(60);

/// What the next process does to the chunk before the late write arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Newer {
    /// It writes a newer version, which Qdrant before 1.16 lets the late write replace. The first process goes on, gets
    /// the answer after its term, and compares.
    Version,
    /// The same, and the first process never goes on: the next one has the chunk on its watch list.
    VersionAlone,
    /// It deletes the chunk, and Qdrant forgets the version with it. The first process never goes on.
    Deletion,
}

/// An installation with Qdrant, and the server itself.
struct Vectors {
    env: Environment,
    client: Qdrant,
    server: QdrantServer,
    _dir: TempDir,
}

impl Vectors {
    async fn of(version: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let options = Options { version: version.to_owned(), ..Options::default() };
        let server = QdrantServer::start(dir.path(), &options).await;
        let settings = format!("qdrant.url = '{}'\nscrub.enabled = false\n", server.url());
        let env = Environment::with(Bus::Redis, &settings).await;
        let client = Qdrant::from_url(server.url()).skip_compatibility_check().build().unwrap();
        Self { env, client, server, _dir: dir }
    }

    /// Whether Qdrant has the chunk in that version, or, if there is none, answers that it does not hold the chunk.
    async fn has(&self, version: Option<u32>) -> bool {
        let ids = vec![PointId::from(self.env.chunk.to_string())];
        let read = GetPointsBuilder::new("unified_chunks", ids).with_payload(true);
        // The collection does not exist until a process has created it.
        let Ok(answer) = self.client.get_points(read).await else { return false };
        let content = answer.result.first().and_then(|point| point.payload["content"].as_str().cloned());
        content == version.map(content_of)
    }

    async fn shows(&self, version: Option<u32>) {
        self.env.until(&format!("version {version:?} in Qdrant"), async || self.has(version).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_write_over_a_newer_version_or_a_deletion_is_gone_within_a_minute() {
    let cases = [("1.15.5", Newer::Version), ("1.15.5", Newer::VersionAlone), ("1.18.1", Newer::Deletion)];
    for (version, newer) in cases {
        late_write(&Vectors::of(version).await, newer).await;
    }
}

async fn late_write(vectors: &Vectors, newer: Newer) {
    let env = &vectors.env;
    let proxy = Proxy::to(port_of(vectors.server.url())).await;
    let first = env.start_at("a", "QDRANT", &proxy.url(vectors.server.url()));
    env.until_holder(first.id()).await;
    env.publish_with_vector(1).await;
    vectors.shows(Some(1)).await;
    env.is_finished().await;

    proxy.turns(LinkState::Holding("version 0002"));
    env.publish_with_vector(2).await;
    timeout(SENT_WITHIN, proxy.held()).await.expect("the first process has sent no write");
    first.stop();
    first.stands_still().await;
    vectors.shows(Some(1)).await;

    let second = env.start("b", &[]);
    env.until_holder(second.id()).await;
    let wanted = match newer {
        Newer::Version | Newer::VersionAlone => {
            env.publish_with_vector(3).await;
            Some(3)
        }
        Newer::Deletion => {
            env.delete(3).await;
            None
        }
    };
    vectors.shows(wanted).await;
    env.is_finished().await;

    proxy.turns(LinkState::Fair);
    vectors.shows(Some(2)).await;
    let arrived = Instant::now();
    if newer == Newer::Version {
        first.go_on();
    }
    vectors.shows(wanted).await;
    let took = arrived.elapsed();
    eprintln!("{newer:?}: the late write was visible for {took:?}");
    assert!(took < VISIBLE_FOR, "{took:?}");
    assert_eq!(env.holder().await, second.id());
    assert_eq!(env.dead_letters().await, 0);
}
