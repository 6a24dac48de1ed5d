//! Clusters: two proxies before the real server are its members, and tell who leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_engine::ports::{Applied, FaultClass, Projection};
use chunk_sync_testkit::Fixture;
use tokio::net::TcpListener;

use super::fixture::{Neo4j, config, draft};
use super::middlebox::{Act, BEGIN, ROUTE, Server};

/// No member leads.
const NONE: usize = usize::MAX;

/// A cluster of two members.
struct Cluster {
    members: Vec<String>,
    leader: Arc<AtomicUsize>,
    /// Asked for the table.
    asked: Arc<AtomicUsize>,
}

impl Cluster {
    async fn start() -> Self {
        let listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let members: Vec<_> = listeners.iter().map(|own| own.local_addr().unwrap().to_string()).collect();
        let (leader, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for (number, listener) in listeners.into_iter().enumerate() {
            let (members, leader, asked) = (members.clone(), Arc::clone(&leader), Arc::clone(&asked));
            Server::on(listener, &config().url, move |tag: u8, _: &[u8]| match (tag, leader.load(Ordering::Relaxed)) {
                (ROUTE, leads) => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Act::Table(members.get(leads).cloned(), members.clone())
                }
                (BEGIN, leads) if leads != number => {
                    Act::Fail("Neo.ClientError.Cluster.NotALeader", "No write operations are allowed on this server")
                }
                _ => Act::Pass,
            });
        }
        Self { members, leader, asked }
    }

    /// A store that is given the address of the first member.
    fn store(&self, scheme: &str) -> Neo4jStore {
        Neo4jStore::new(&Neo4jConfig { url: format!("{scheme}://{}", self.members[0]), ..config() }).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_follow_the_leader_and_meanwhile_the_cluster_is_unavailable() {
    let (_turn, cluster) = (Neo4j::fresh().await, Cluster::start().await);
    let store = cluster.store("neo4j");
    for number in 1..=10 {
        assert!(matches!(store.apply(&[draft(number).at(1)]).await[..], [Applied::Written]));
    }
    assert_eq!(cluster.asked.load(Ordering::Relaxed), 1, "the table is kept");
    cluster.leader.store(NONE, Ordering::Relaxed);
    for _ in 0..3 {
        let Applied::Failed(fault) = store.apply(&[draft(1).at(2)]).await.remove(0) else { panic!("no member leads") };
        assert_eq!(fault.class, FaultClass::Unavailable, "{fault}");
        assert!(fault.message.contains("leader"), "{fault}");
    }
    for leader in [1, 0, 1] {
        cluster.leader.store(leader, Ordering::Relaxed);
        // The first attempt may find that the former leader is none any more.
        let attempts = [store.apply(&[draft(2).at(2)]).await, store.apply(&[draft(2).at(2)]).await];
        assert!(attempts[1][0].is_durable(), "{attempts:?}");
        assert_eq!(store.counts().await.unwrap().chunks, 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_named_directly_is_reported() {
    let (_turn, cluster) = (Neo4j::fresh().await, Cluster::start().await);
    cluster.leader.store(1, Ordering::Relaxed);
    let fault = cluster.store("bolt").check().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Unavailable);
    assert!(fault.message.contains("not the leader") && fault.message.contains("neo4j://"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_is_used_under_the_given_address_whatever_it_calls_itself() {
    let neo4j = Neo4j::fresh().await;
    let own = "db.internal.invalid:7687".to_owned();
    let server = Server::before(config().url, move |tag: u8, _: &[u8]| match tag {
        ROUTE => Act::Table(Some(own.clone()), vec![own.clone()]),
        _ => Act::Pass,
    });
    let store = Neo4jStore::new(&Neo4jConfig { url: format!("neo4j://{}", server.await), ..config() }).unwrap();
    assert!(matches!(store.apply(&[draft(1).at(1)]).await[..], [Applied::Written]));
    // The real one answers too.
    let url = config().url.replacen("bolt", "neo4j", 1);
    let store = Neo4jStore::new(&Neo4jConfig { url, ..config() }).unwrap();
    store.prepare().await.unwrap();
    assert!(matches!(store.apply(&[draft(2).at(1)]).await[..], [Applied::Written]));
    assert_eq!(neo4j.store.counts().await.unwrap().chunks, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_down_is_left_for_another() {
    let (_turn, cluster) = (Neo4j::fresh().await, Cluster::start().await);
    // A router that dies after it has named the others.
    let down = Arc::new(AtomicUsize::new(0));
    let (members, counted) = (cluster.members.clone(), Arc::clone(&down));
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = own.local_addr().unwrap();
    Server::on(own, &config().url, move |tag: u8, _: &[u8]| match (tag, counted.load(Ordering::Relaxed)) {
        (_, 1) => Act::Close,
        (ROUTE, _) => Act::Table(Some(members[0].clone()), members.clone()),
        _ => Act::Pass,
    });
    let store = Neo4jStore::new(&Neo4jConfig { url: format!("neo4j://{address}"), ..config() }).unwrap();
    assert!(matches!(store.apply(&[draft(1).at(1)]).await[..], [Applied::Written]));
    down.store(1, Ordering::Relaxed);
    cluster.leader.store(1, Ordering::Relaxed);
    let attempts = [store.apply(&[draft(1).at(2)]).await, store.apply(&[draft(1).at(2)]).await];
    assert!(attempts[1][0].is_durable(), "{attempts:?}");
}
