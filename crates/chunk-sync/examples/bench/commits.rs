//! Single-row commits in an open loop: latency from commit to visible at several rates, per kind of change, and the
//! highest rate that the service carries without falling behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::Options;
use crate::environment::{Environment, until};
use crate::report::{Report, quantile};
use crate::visible::{Change, Watch, watch};

/// The kinds of change in the order in which they take turns. A delete takes the oldest inserted row if every watched
/// change up to it is visible.
const KINDS: [&str; 6] = ["metadata", "content", "metadata", "insert", "metadata", "delete"];

/// Connections that commit in turn. One alone waits for each answer, and falls behind before the service does.
const CONNECTIONS: usize = 8;

/// Watched changes per second: more would take a good part of the servers' time. Every so many commits one is watched; the
/// number has no divisor in common with that of the kinds, so that each kind is.
const WATCHED: u64 = 50;

/// How long the stores may need for the rest after the last commit if the service has not fallen behind.
const BEHIND: Duration = Duration::from_secs(1);

/// Rates that are tried for the highest one, commits per second.
const STEPS: [u64; 8] = [200, 400, 600, 800, 1_000, 1_300, 1_600, 2_000];

pub(crate) async fn measure(environment: &Environment, options: &Options, report: &mut Report) {
    let (run, _) = environment.run().await;
    let rows = environment.rows.query("SELECT id FROM unified.chunks ORDER BY id LIMIT 5000", &[]).await.unwrap();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    // The first commits after a start are slower: connections and plans are made, and Neo4j still compiles.
    drive(environment, &ids, 100, options.seconds.min(30)).await;
    if options.wants("latency") {
        for rate in &options.rates {
            let driving = drive(environment, &ids, *rate, options.seconds);
            let Some(driven) = report.attempt(&format!("latency at {rate}/s"), driving).await else { continue };
            report.add(&format!("latency: sent at {rate}/s"), "commits/s", driven.sent);
            report.add(&format!("latency: rest after {rate}/s"), "s", driven.rest.as_secs_f64());
            for (store, watch) in [("qdrant", &driven.qdrant), ("neo4j", &driven.neo4j)] {
                latencies(report, &format!("latency: {store}, {rate}/s"), watch);
            }
        }
    }
    if options.wants("commits") {
        let mut highest = 0.0;
        for rate in STEPS {
            let driven = drive(environment, &ids, rate, options.seconds.min(20)).await;
            if driven.rest > BEHIND {
                break;
            }
            highest = driven.sent;
        }
        report.add("commits: highest rate", "commits/s", highest);
    }
    report.add("memory: after commits", "MiB", run.peak_memory());
    drop(run);
    environment.verify();
}

fn latencies(report: &mut Report, name: &str, watch: &Watch) {
    let latencies = watch.latencies.lock().unwrap();
    let all: Vec<f64> = latencies.iter().map(|(_, latency)| *latency).collect();
    for (label, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        report.add(&format!("{name}, {label}"), "ms", quantile(&all, share));
    }
    for kind in ["metadata", "content", "insert", "delete"] {
        let of: Vec<f64> = latencies.iter().filter(|(k, _)| *k == kind).map(|(_, latency)| *latency).collect();
        report.add(&format!("{name}, {kind} p95"), "ms", quantile(&of, 0.95));
    }
}

/// Of how many commits one is watched.
fn watched_of(rate: u64) -> u64 {
    (rate.div_ceil(WATCHED)..).find(|every| every % 2 != 0 && every % 3 != 0).unwrap_or(1)
}

struct Driven {
    qdrant: Arc<Watch>,
    neo4j: Arc<Watch>,
    /// Commits per second that were really sent.
    sent: f64,
    /// The time from the last commit until all changes were visible.
    rest: Duration,
}

/// Commits so many changes per second for so long, each when it is due, and waits until both stores show all.
async fn drive(environment: &Environment, ids: &[Uuid], rate: u64, seconds: u64) -> Driven {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(environment.connect().await);
    }
    let load = Load {
        ids,
        rate,
        count: rate * seconds,
        began: Instant::now(),
        inserted: Mutex::default(),
        qdrant: Arc::default(),
        neo4j: Arc::default(),
    };
    let tasks = watch(environment, Arc::clone(&load.qdrant), Arc::clone(&load.neo4j));
    let commits = join_all(connections.iter().zip(0..).map(|(rows, first)| load.send(rows, first))).await;
    let sent = commits.iter().sum::<u64>() as f64 / load.began.elapsed().as_secs_f64();
    let last = Instant::now();
    let Load { qdrant, neo4j, .. } = load;
    until("visibility of all commits", || async { qdrant.is_empty() && neo4j.is_empty() }).await;
    drop(tasks);
    Driven { qdrant, neo4j, sent, rest: last.elapsed() }
}

/// The commits of one run.
struct Load<'a> {
    ids: &'a [Uuid],
    /// Commits per second, over all connections.
    rate: u64,
    count: u64,
    began: Instant,
    /// Inserted rows that are not deleted yet, and when their inserts were due.
    inserted: Mutex<VecDeque<(Uuid, Instant)>>,
    qdrant: Arc<Watch>,
    neo4j: Arc<Watch>,
}

impl Load<'_> {
    /// Sends the commits of one connection, which begin with the number `first`; returns how many.
    async fn send(&self, rows: &Client, first: u64) -> u64 {
        let (mut commits, every) = (0, watched_of(self.rate));
        for number in (first..self.count).step_by(CONNECTIONS) {
            let due = self.began + Duration::from_secs_f64(number as f64 / self.rate as f64);
            tokio::time::sleep_until(due.into()).await;
            let kind = KINDS[number as usize % KINDS.len()];
            let id = match kind {
                "delete" => self.shown(),
                _ => Some(self.ids[number as usize % self.ids.len()]),
            };
            let Some(id) = id else { continue };
            commits += 1;
            let change = commit(rows, id, kind, due).await;
            if kind == "insert" {
                self.inserted.lock().unwrap().push_back((change.id, due));
            }
            if number % every == 0 || number + 1 == self.count {
                self.qdrant.add(change.clone());
                self.neo4j.add(change);
            }
        }
        commits
    }

    /// Takes the oldest inserted row, once it is shown: a chunk that is deleted before would never be seen in a store.
    fn shown(&self) -> Option<Uuid> {
        let shown = |(_, due): &mut (Uuid, Instant)| !self.qdrant.awaits_until(*due) && !self.neo4j.awaits_until(*due);
        self.inserted.lock().unwrap().pop_front_if(shown).map(|(id, _)| id)
    }
}

async fn commit(rows: &Client, id: Uuid, kind: &'static str, due: Instant) -> Change {
    let micros = "(extract(epoch FROM updated_at) * 1000000)::bigint";
    let (id, updated) = match kind {
        "delete" => {
            rows.execute("DELETE FROM unified.chunks WHERE id = $1", &[&id]).await.unwrap();
            (id, None)
        }
        "insert" => {
            let new = Uuid::new_v4();
            let copy = format!(
                "INSERT INTO unified.chunks (id, content, chunk_type, dense_vector, embedding_model, source_type, \
                 start_char, end_char, metadata, created_at, updated_at)
                 SELECT $1, content, chunk_type, dense_vector, embedding_model, source_type, start_char, end_char, \
                 metadata, created_at, clock_timestamp() FROM unified.chunks WHERE id = $2 RETURNING {micros}"
            );
            let row = rows.query_one(&copy, &[&new, &id]).await.unwrap();
            (new, Some(row.get(0)))
        }
        _ => {
            let set = match kind {
                "content" => "content = left(content, 2000) || '.'",
                _ => "metadata = jsonb_set(metadata, '{bench}', to_jsonb(random()))",
            };
            let update = format!(
                "UPDATE unified.chunks SET {set}, updated_at = clock_timestamp() WHERE id = $1 RETURNING {micros}"
            );
            (id, Some(rows.query_one(&update, &[&id]).await.unwrap().get(0)))
        }
    };
    Change { id, updated, kind, due }
}
