//! What a merge costs: statements and round trips, counted by a proxy. Seconds depend on the machine, these do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chunk_sync_connectors::postgres::{PostgresConfig, PostgresRecords};
use chunk_sync_engine::ports::{Commit, CurrentState, NoteChange};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::{Record, State, Target};
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{changed, states, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Server};

/// So long the client must be quiet until what it sent is passed on: a flight in several pieces counts as one, also on a
/// machine with other work.
const QUIET: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Executions, each with an answer of its own.
    statements: usize,
    /// Times that the client sent something after it had all answers.
    round_trips: usize,
}

#[derive(Default)]
struct Counted {
    cost: Cost,
    unanswered: usize,
    /// Whether the client is within a statement.
    is_within: bool,
}

/// A proxy on loopback that counts.
struct Counter {
    url: String,
    counted: Arc<Mutex<Counted>>,
}

impl Counter {
    async fn before(url: &str) -> Self {
        let (login, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("{login}@{}/{database}", listener.local_addr().unwrap());
        let counted = Arc::<Mutex<Counted>>::default();
        let (server, counts) = (server.to_owned(), Arc::clone(&counted));
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let to = TcpStream::connect(&server).await.unwrap();
                let ((from, back), (answers, to)) = (from.into_split(), to.into_split());
                tokio::spawn(requests(from, to, Arc::clone(&counts)));
                tokio::spawn(responses(answers, back, Arc::clone(&counts)));
            }
        });
        Self { url: own, counted }
    }

    fn take(&self) -> Cost {
        std::mem::take(&mut self.counted.lock().unwrap().cost)
    }
}

/// Passes on what the client sent once it is quiet. The first message of a connection has no tag.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: Arc<Mutex<Counted>>) {
    let (mut bytes, mut read, mut start) = (Vec::new(), 0, 0);
    loop {
        let is_idle = read == bytes.len();
        let more = from.read_buf(&mut bytes);
        let arrived = if is_idle { Ok(more.await) } else { tokio::time::timeout(QUIET, more).await };
        match arrived {
            Ok(Ok(1..)) => continue,
            Ok(_) => return,
            Err(_) => {}
        }
        while let Some(length) = bytes.get(start + usize::from(start > 0)..).and_then(|rest| rest.first_chunk::<4>()) {
            let end = start + usize::from(start > 0) + u32::from_be_bytes(*length) as usize;
            if end > bytes.len() {
                break;
            }
            if start > 0 {
                counted.lock().unwrap().request(bytes[start]);
            }
            start = end;
        }
        if to.write_all(&bytes[read..]).await.is_err() {
            return;
        }
        read = bytes.len();
    }
}

async fn responses(mut answers: OwnedReadHalf, mut back: OwnedWriteHalf, counted: Arc<Mutex<Counted>>) {
    loop {
        let (Ok(tag), Ok(length)) = (answers.read_u8().await, answers.read_u32().await) else { return };
        let mut body = vec![0; length as usize - 4];
        if answers.read_exact(&mut body).await.is_err() {
            return;
        }
        if tag == b'Z' {
            let mut counted = counted.lock().unwrap();
            counted.unanswered = counted.unanswered.saturating_sub(1);
        }
        let mut message = vec![tag];
        message.extend(length.to_be_bytes());
        message.extend(body);
        if back.write_all(&message).await.is_err() {
            return;
        }
    }
}

impl Counted {
    fn request(&mut self, tag: u8) {
        if self.unanswered == 0 && !self.is_within {
            self.cost.round_trips += 1;
        }
        self.is_within = !matches!(tag, b'S' | b'Q');
        if !self.is_within {
            self.cost.statements += 1;
            self.unanswered += 1;
        }
    }
}

/// A merge with a trivial decision.
async fn merge(records: &PostgresRecords, states: &[Arc<State>], number: u64) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let commit = |state: &Arc<State>| Commit {
        id: state.chunk.id,
        record: Record { version: version(number), ..Record::default() },
        row: Some(row_fingerprint(state).digest()),
        state: Some(Arc::clone(state)),
        row_changed: true,
        outbox: vec![Target::Qdrant],
        decided: Vec::new(),
        conflicts: Vec::new(),
        absence: NoteChange::Keep,
    };
    let decide = |_: Vec<CurrentState>| states.iter().map(commit).collect();
    records.merge(&ids, &decide).await.unwrap();
}

async fn a_merge_takes_two_round_trips<S: Server>() {
    let database = Database::fresh::<S>().await;
    drop(database.prepared().await);
    let counter = Counter::before(&database.url).await;
    let config = PostgresConfig { url: counter.url.as_str().into(), pool_size: 1, ..database.config() };
    let records = PostgresRecords::connect(config).await.unwrap();
    let all = states(2 * 256 + 4);
    let update = |states: &[Arc<State>]| -> Vec<Arc<State>> {
        states.iter().map(|state| changed(state, "the new content of the chunk")).collect()
    };
    // The first merges prepare their statements and find out that there is no trigger.
    for number in 1..4 {
        merge(&records, &all[..1], number).await;
        merge(&records, &update(&all[..1]), number + 10).await;
        merge(&records, &all[usize::try_from(number).unwrap()..][..1], number).await;
    }
    for (rows, new) in [(1, &all[4..5]), (256, &all[5..261])] {
        for (what, states, number) in [("new", new.to_vec(), 21), ("changed", update(new), 22)] {
            counter.take();
            merge(&records, &states, number).await;
            let cost = counter.take();
            eprintln!("{what}, {rows} rows: {cost:?}");
            assert!(cost.round_trips <= 2, "{what}, {rows} rows: {cost:?}");
            assert!(cost.statements <= 15 + rows, "{what}, {rows} rows: {cost:?}");
        }
    }
}

macro_rules! on {
    ($name:ident, $server:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_merge_takes_two_round_trips() {
                super::a_merge_takes_two_round_trips::<super::$server>().await;
            }
        }
    };
}

on!(on_15, Pg15);
on!(on_18, Pg18);
