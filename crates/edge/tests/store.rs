//! The embedded vectors, held to the contract of a store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_edge::EdgeStore;
use chunk_sync_engine::ports::{Applied, FaultClass, Store};
use chunk_sync_model::{EmbeddingModel, Limits};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::states::{states, write};
use tempfile::TempDir;

struct Vectors {
    // Closed before its directory goes.
    store: Option<EdgeStore>,
    dir: TempDir,
}

#[async_trait]
impl Fixture for Vectors {
    type Port = dyn Store;

    async fn fresh() -> Self {
        let mut fixture = Self { store: None, dir: TempDir::new().unwrap() };
        fixture.reopen().await;
        fixture
    }

    fn port(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone().unwrap())
    }

    async fn reopen(&mut self) {
        // One process at a time, and one opening at a time.
        self.store = None;
        self.store = Some(open(self.dir.path()));
    }
}

fn open(dir: &Path) -> EdgeStore {
    EdgeStore::open(&dir.join("vectors"), Arc::new(Limits::default())).unwrap()
}

chunk_sync_testkit::store_suite!(Vectors);
chunk_sync_testkit::vector_store_suite!(Vectors);

#[test]
fn a_directory_made_for_other_models_is_refused_with_the_difference() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let other = |models| {
        let limits = Arc::new(Limits { models, ..Limits::default() });
        EdgeStore::open(&dir.path().join("vectors"), limits).err().expect("it is refused")
    };
    let model = |name: &str, size| EmbeddingModel { model: name.into(), vector: format!("dense_{name}"), size };
    let smaller = other(vec![model("gte", 384), model("coderank", 768), model("cognee", 768)]);
    assert_eq!(smaller.class, FaultClass::Misconfigured);
    assert!(smaller.message.contains("holds `dense_alternative` with 768 numbers, configured are 384"), "{smaller}");
    let unknown = other(vec![model("gte", 768)]);
    assert!(unknown.message.contains("holds a vector `dense_coderank`"), "{unknown}");
    drop(open(dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_new_is_added_and_what_was_there_stays() {
    let mut fixture = Vectors::fresh().await;
    let states = states(30);
    let writes: Vec<_> = states.iter().map(|state| write(state, 1)).collect();
    fixture.port().apply(&writes).await;
    let before = fixture.port().scan(None, 100).await.unwrap();
    fixture.store = None;
    let mut limits = Limits::default();
    limits.models.push(EmbeddingModel { model: "new".into(), vector: "dense_new".into(), size: 16 });
    let open = || EdgeStore::open(&fixture.dir.path().join("vectors"), Arc::new(limits.clone())).unwrap();
    let mut with_new = chunk_sync_model::State::clone(&states[0]);
    let mut dense = with_new.chunk.embeddings.dense[0].clone();
    (dense.model, dense.vector) = ("new".to_owned(), vec![0.25_f32; 16].into());
    with_new.chunk.embeddings.dense.push(dense);
    let store = open();
    assert_eq!(store.scan(None, 100).await.unwrap(), before);
    assert!(matches!(store.apply(&[write(&Arc::new(with_new.clone()), 2)]).await[..], [Applied::Written]));
    drop(store);
    // Opened with it once more, and the segments merged.
    let store = open();
    store.optimize().unwrap();
    let held = store.read(&[with_new.chunk.id]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(held.fingerprint, store.expect(&with_new));
}

#[tokio::test(flavor = "multi_thread")]
async fn merging_segments_changes_nothing_that_is_held() {
    let mut fixture = Vectors::fresh().await;
    let states = states(300);
    let writes: Vec<_> = states.iter().map(|state| write(state, 1)).collect();
    fixture.port().apply(&writes).await;
    let before = fixture.port().scan(None, 1000).await.unwrap();
    fixture.store.as_ref().unwrap().optimize().unwrap();
    assert_eq!(fixture.port().scan(None, 1000).await.unwrap(), before);
    fixture.reopen().await;
    assert_eq!(fixture.port().scan(None, 1000).await.unwrap(), before);
}

/// The directory for the child below.
const CHILD: &str = "CHUNK_SYNC_TEST_EDGE_CHILD";

/// Not a test of its own: what the next one kills. It says which batch was answered, and goes on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of what_was_answered_survives_a_kill"]
async fn child_that_is_killed() {
    let store = open(Path::new(&std::env::var(CHILD).expect("it is started by another test")));
    for (number, batch) in states(2000).chunks(20).enumerate() {
        let writes: Vec<_> = batch.iter().map(|state| write(state, 1)).collect();
        assert!(store.apply(&writes).await.iter().all(Applied::is_durable));
        println!("answered {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    for (round, until) in [3, 11].into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_that_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let answered = lines.map(Result::unwrap).find(|line| *line == format!("answered {until}"));
        assert!(answered.is_some(), "the child ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(dir.path());
        let ids: Vec<_> = states((until + 1) * 20).iter().map(|state| state.chunk.id).collect();
        let held = store.read(&ids).await.unwrap();
        assert!(held.iter().all(Option::is_some), "round {round} lost what was answered");
    }
}
