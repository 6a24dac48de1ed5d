//! Events of one chunk take effect in the order of the stream, whatever the number of processes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chunk_sync_connectors::redis::RedisConfig;
use chunk_sync_engine::ports::{Bus, EntryId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::surroundings::{Process, SHORT, bus, config, event_of, events, ids, read_all, send, shared_url};

#[tokio::test]
async fn an_entry_waits_while_another_process_has_an_earlier_one_of_its_chunk() {
    let config = config(&shared_url());
    let (first, second) = (bus(&config).await, bus(&config).await);
    let (x, y) = (Uuid::new_v4(), Uuid::new_v4());
    let given = first.publish(&[event_of(x), event_of(x), event_of(y), event_of(x)]).await.unwrap();
    assert_eq!(ids(&first.read(1, SHORT).await.unwrap()), given[..1]);
    assert_eq!(ids(&second.read(10, SHORT).await.unwrap()), given[2..3], "only the other chunk's");
    assert!(second.read(10, SHORT).await.unwrap().is_empty());
    first.acknowledge(&given[..1]).await.unwrap();
    assert_eq!(ids(&read_all(&second, 2).await), [given[1], given[3]]);
}

#[tokio::test]
async fn a_process_gets_later_entries_of_a_chunk_that_it_has() {
    let config = config(&shared_url());
    let (first, _second) = (bus(&config).await, bus(&config).await);
    let x = Uuid::new_v4();
    let given = first.publish(&[event_of(x), event_of(x), event_of(x)]).await.unwrap();
    for id in given {
        assert_eq!(ids(&first.read(1, SHORT).await.unwrap()), [id]);
    }
}

#[tokio::test]
async fn those_who_wait_for_one_chunk_go_on_in_the_order_of_the_stream() {
    let config = config(&shared_url());
    let buses = [bus(&config).await, bus(&config).await, bus(&config).await];
    let x = Uuid::new_v4();
    let mut given = Vec::new();
    for bus in &buses {
        given.extend(buses[0].publish(&[event_of(x)]).await.unwrap());
        let read = bus.read(1, SHORT).await.unwrap();
        assert_eq!(ids(&read), given[..read.len()], "only the first has its turn");
    }
    buses[0].acknowledge(&given[..1]).await.unwrap();
    assert!(buses[2].read(1, SHORT).await.unwrap().is_empty(), "the third may not overtake the second");
    assert_eq!(ids(&buses[1].read(1, SHORT).await.unwrap()), given[1..2]);
    buses[1].acknowledge(&given[1..2]).await.unwrap();
    assert_eq!(ids(&buses[2].read(1, SHORT).await.unwrap()), given[2..]);
}

#[tokio::test]
async fn what_somebody_has_read_and_not_yet_registered_holds_back_what_comes_after_it() {
    let config = config(&shared_url());
    let bus = bus(&config).await;
    let given = bus.publish(&events(3)).await.unwrap();
    // A process that stands still, or died, between reading and registering.
    let read = ["XREADGROUP", "GROUP", &config.group, "ghost", "COUNT", "1", "STREAMS", &config.stream, ">"];
    send::<redis::Value>(&shared_url(), &read).await;
    assert!(bus.read(10, SHORT).await.unwrap().is_empty());
    // Found dead, it is survived.
    let read = read_all(&bus, 3).await;
    assert_eq!(ids(&read), given);
    assert_eq!(read.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 1, 1]);
}

#[tokio::test]
async fn what_is_no_event_waits_for_nothing() {
    let config = config(&shared_url());
    let (first, second) = (bus(&config).await, bus(&config).await);
    let x = Uuid::new_v4();
    first.publish(&[event_of(x)]).await.unwrap();
    for chunk in ["{", "", r#"{"id":3}"#] {
        send::<String>(&shared_url(), &["XADD", &config.stream, "*", "chunk", chunk]).await;
    }
    assert_eq!(first.read(1, SHORT).await.unwrap().len(), 1);
    assert_eq!(read_all(&second, 3).await.len(), 3);
}

#[tokio::test]
async fn an_entry_that_somebody_else_acknowledged_holds_back_nobody() {
    let config = config(&shared_url());
    let (first, second) = (bus(&config).await, bus(&config).await);
    let x = Uuid::new_v4();
    let given = first.publish(&[event_of(x), event_of(x)]).await.unwrap();
    assert_eq!(first.read(1, SHORT).await.unwrap().len(), 1);
    assert!(second.read(10, SHORT).await.unwrap().is_empty());
    send::<u64>(&shared_url(), &["XACK", &config.stream, &config.group, &given[0].to_string()]).await;
    assert_eq!(ids(&second.read(10, SHORT).await.unwrap()), given[1..]);
}

/// What a test remembers of every entry to judge each hand-out.
struct Oracle {
    chunk_of: HashMap<EntryId, usize>,
    stream: Vec<EntryId>,
    finished: HashSet<EntryId>,
}

impl Oracle {
    /// Every earlier unfinished entry of its chunk must lie with the process that is handed this one.
    fn judge(&self, id: EntryId, has: &HashSet<EntryId>) {
        let chunk = self.chunk_of[&id];
        let earlier = self.stream.iter().take_while(|other| **other < id).filter(|other| self.chunk_of[other] == chunk);
        for other in earlier {
            assert!(
                self.finished.contains(other) || has.contains(other),
                "{id} was handed out while {other} of the same chunk is unfinished elsewhere"
            );
        }
    }
}

/// Processes read, finish, stall and die at random. Prints its seed; `CHUNK_SYNC_TEST_SEED` repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_processes_do_each_chunk_keeps_its_order_and_nothing_is_left() {
    let seed = std::env::var("CHUNK_SYNC_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    eprintln!("CHUNK_SYNC_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let config = RedisConfig {
        alive_for: Duration::from_millis(500),
        claim_after: Duration::from_millis(50),
        ..config(&shared_url())
    };
    let publisher = bus(&config).await;
    let chunks: Vec<_> = (0..12).map(|_| Uuid::new_v4()).collect();
    let mut oracle = Oracle { chunk_of: HashMap::new(), stream: Vec::new(), finished: HashSet::new() };
    let mut processes: Vec<_> = (0..4).map(|_| (Process::start(&config), HashSet::new())).collect();
    let (mut unpublished, mut kills) = (3_000, 0);
    let deadline = Instant::now() + Duration::from_secs(90);

    while unpublished > 0 || oracle.finished.len() < oracle.stream.len() {
        assert!(Instant::now() < deadline, "{} of {} finished", oracle.finished.len(), oracle.stream.len());
        let count = rng.random_range(0..40).min(unpublished);
        let picked: Vec<_> = (0..count).map(|_| rng.random_range(0..chunks.len())).collect();
        let sent: Vec<_> = picked.iter().map(|chunk| event_of(chunks[*chunk])).collect();
        let given = publisher.publish(&sent).await.unwrap();
        oracle.chunk_of.extend(given.iter().copied().zip(picked));
        oracle.stream.extend(given);
        unpublished -= count;

        // All read at once; some are killed on the way.
        let read = |process: &Process, rng: &mut StdRng| {
            process.start_read(rng.random_range(1..30), Duration::from_millis(rng.random_range(0..15)))
        };
        let reads: Vec<_> = processes.iter().map(|(process, _)| read(process, &mut rng)).collect();
        let victim = (kills < 6 && rng.random_bool(0.1)).then(|| rng.random_range(0..processes.len()));
        if let Some(victim) = victim {
            kills += 1;
            let dead = std::mem::replace(&mut processes[victim], (Process::start(&config), HashSet::new()));
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..4_000))).await;
            dead.0.kill();
        }
        for (who, read) in reads.into_iter().enumerate().filter(|(who, _)| Some(*who) != victim) {
            let (_, has) = &mut processes[who];
            for delivery in read.await.unwrap().unwrap() {
                oracle.judge(delivery.id, has);
                has.insert(delivery.id);
            }
        }
        for (process, has) in &mut processes {
            // Batches end in any order, each chunk's within it in its own.
            let mut some: Vec<_> = has.iter().copied().filter(|_| rng.random_bool(0.6)).collect();
            some.sort_unstable();
            some.retain(|id| {
                let earlier = has.iter().any(|other| other < id && oracle.chunk_of[other] == oracle.chunk_of[id]);
                !earlier || rng.random_bool(0.3)
            });
            for id in &some {
                has.remove(id);
                oracle.finished.insert(*id);
            }
            process.acknowledge(some).await.unwrap();
        }
    }
    let depth = publisher.depth().await.unwrap();
    assert_eq!((depth.unread, depth.pending, publisher.lost()), (0, 0, 0));
}
