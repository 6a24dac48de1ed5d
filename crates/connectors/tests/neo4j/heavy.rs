//! One chunk whose write takes longer than the client waits, here because another client locks its node: it delays no
//! other chunk and no other store.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_engine::ports::{Bus as _, FinishedBy, Outbox as _, Projection};
use chunk_sync_engine::{Publisher, Service, Settings};
use chunk_sync_model::{Event, Limits, State, SyncVersion, Target, Time};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::memory::{MemoryBus, MemoryRecords, MemoryStore, memory_ports};
use chunk_sync_testkit::states::{changed, states};
use neo4rs::query;
use tempfile::TempDir;

use super::fixture::{Neo4j, config};

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn all_held(store: &dyn Projection, states: &[Arc<State>]) -> bool {
    let ids: Vec<_> = states.iter().map(|state| state.chunk.id).collect();
    store.fetch_documents(&ids).await.unwrap().iter().all(Option::is_some)
}

async fn version(store: &dyn Projection, state: &State) -> SyncVersion {
    store.fetch_documents(&[state.chunk.id]).await.unwrap().remove(0).unwrap().version
}

fn updated(state: &Arc<State>) -> Arc<State> {
    let mut updated = State::clone(&changed(state, "another content of the chunk"));
    updated.chunk.metadata.updated_at = Time::from_micros(state.chunk.metadata.updated_at.micros() + 1_000_000);
    Arc::new(updated)
}

fn event(state: &Arc<State>) -> Event {
    Event::of_chunk(state.chunk.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_whose_write_takes_too_long_delays_no_other() {
    let neo4j = Neo4j::fresh().await;
    let graph = Arc::new(Neo4jStore::new(&Neo4jConfig { timeout: Duration::from_secs(1), ..config() }).unwrap());
    let vectors = MemoryStore::new(Target::Qdrant, Limits::default());
    let (bus, records) = (MemoryBus::of(usize::MAX, FinishedBy::Acknowledgement), MemoryRecords::default());
    let stores: Vec<Arc<dyn Projection>> = vec![graph.clone(), Arc::new(vectors.clone())];
    let dir = TempDir::new().unwrap();
    let settings = Settings::new(dir.path().join("wal"));
    let service = Service::start(memory_ports(&bus, &records, stores), settings).await.unwrap();
    let publisher = Publisher::new(Arc::new(bus.clone()), Arc::new(Limits::default()));
    let all = states(60);
    let (heavy, others) = all.split_first().unwrap();
    publisher.publish(vec![event(heavy)]).await.unwrap();
    service.until_idle().await.unwrap();

    let before = version(&vectors, heavy).await;
    let mut other = neo4j.raw.start_txn().await.unwrap();
    let lock = query("MATCH (c:Chunk {id: $id}) SET c.id = c.id").param("id", heavy.chunk.id.to_string());
    other.run(lock).await.unwrap();
    let mut events = vec![event(&updated(heavy))];
    events.extend(others[..50].iter().map(event));
    publisher.publish(events).await.unwrap();
    until("the other store has the change", async || version(&vectors, heavy).await > before).await;
    until("the other chunks", async || all_held(&*neo4j.store, &others[..50]).await).await;
    until("the heavy write alone is left", async || {
        let depth = bus.depth().await.unwrap();
        depth.oldest.is_none() && records.outbox_counts().await.unwrap()[&Target::Neo4j] == 1
    })
    .await;
    for state in &others[50..] {
        publisher.publish(vec![event(state)]).await.unwrap();
        until("a later chunk", async || all_held(&*neo4j.store, std::slice::from_ref(state)).await).await;
    }
    assert_eq!(records.outbox_counts().await.unwrap()[&Target::Neo4j], 1, "the row is still locked");
    other.rollback().await.unwrap();
    until("the heavy write", async || records.outbox_counts().await.unwrap()[&Target::Neo4j] == 0).await;
    service.stop().await.unwrap();
}
