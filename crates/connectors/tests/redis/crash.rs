//! Processes that die or fall silent, and a server that restarts, loses its data or refuses.

use std::collections::HashSet;
use std::time::Duration;

use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Depth, FaultClass};
use uuid::Uuid;

use super::server::Server;
use super::surroundings::{
    LONG, Process, SHORT, another, bus, config, event_of, events, ids, read_all, send, shared_url,
};

#[tokio::test]
async fn what_a_dead_process_had_goes_to_the_living_in_order_and_says_so() {
    let config = config(&shared_url());
    let first = Process::start(&config);
    let second = bus(&config).await;
    let x = Uuid::new_v4();
    let given = second.publish(&[event_of(x), event_of(x), event_of(x)]).await.unwrap();
    assert_eq!(ids(&first.read(2, SHORT).await.unwrap()), given[..2]);
    assert!(second.read(10, SHORT).await.unwrap().is_empty(), "held back behind the first process");
    first.kill();
    let read = read_all(&second, 3).await;
    assert_eq!(ids(&read), given);
    assert_eq!(read.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn each_death_counts_an_attempt() {
    let config = config(&shared_url());
    let publisher = bus(&config).await;
    let given = publisher.publish(&events(1)).await.unwrap();
    for attempt in 1..=5 {
        let process = Process::start(&config);
        let read = loop {
            let read = process.read(10, Duration::from_millis(200)).await.unwrap();
            if !read.is_empty() {
                break read;
            }
        };
        assert_eq!((read[0].id, read[0].attempt), (given[0], attempt));
        process.kill();
    }
}

#[tokio::test]
async fn an_entry_that_kills_whoever_gets_it_takes_no_other_along() {
    let config = RedisConfig {
        alive_for: Duration::from_millis(400),
        claim_after: Duration::from_millis(100),
        ..config(&shared_url())
    };
    let publisher = bus(&config).await;
    let x = Uuid::new_v4();
    // Before and behind the culprit there are others, some of them of its own chunk.
    let sent: Vec<_> = (0..40).map(|i| if i % 10 == 5 { event_of(x) } else { event_of(Uuid::new_v4()) }).collect();
    let given = publisher.publish(&sent).await.unwrap();
    let culprit = given[15];
    let (mut attempts, mut most, mut finished) = (0, 0, HashSet::new());
    while attempts < 8 {
        let process = Process::start(&config);
        loop {
            let read = process.read(100, Duration::from_millis(100)).await.unwrap();
            if let Some(killer) = read.iter().find(|delivery| delivery.id == culprit) {
                attempts = killer.attempt;
                break;
            }
            most = read.iter().map(|delivery| delivery.attempt).fold(most, u32::max);
            finished.extend(ids(&read));
            process.acknowledge(ids(&read)).await.unwrap();
        }
        process.kill();
    }
    assert!(most <= 4, "another was tried {most} times");
    // What is left is of the culprit's chunk, behind it.
    let left: Vec<_> = given.iter().filter(|id| !finished.contains(*id)).copied().collect();
    assert_eq!(left, [given[15], given[25], given[35]]);
}

#[tokio::test]
async fn a_slow_process_that_lives_keeps_what_it_has() {
    let config = RedisConfig { claim_after: Duration::ZERO, ..config(&shared_url()) };
    let (slow, second) = (bus(&config).await, bus(&config).await);
    let given = slow.publish(&events(5)).await.unwrap();
    assert_eq!(slow.read(10, SHORT).await.unwrap().len(), 5);
    // Three times as long as the dead are waited for.
    assert!(second.read(10, config.alive_for * 3).await.unwrap().is_empty());
    slow.acknowledge(&given).await.unwrap();
    assert_eq!(slow.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_process_that_leaves_is_not_waited_for() {
    let config = RedisConfig { claim_after: Duration::from_secs(3_600), ..config(&shared_url()) };
    let first = bus(&config).await;
    let given = first.publish(&events(5)).await.unwrap();
    assert_eq!(first.read(3, SHORT).await.unwrap().len(), 3);
    first.leave().await.unwrap();
    let second = bus(&config).await;
    assert_eq!(ids(&second.read(10, SHORT).await.unwrap()), given[..3], "first what the other had");
    assert_eq!(ids(&second.read(10, SHORT).await.unwrap()), given[3..]);
}

#[tokio::test]
async fn a_process_that_was_taken_for_dead_hands_out_nothing_that_is_another_s() {
    let config = config(&shared_url());
    let (first, second) = (bus(&config).await, bus(&config).await);
    let x = Uuid::new_v4();
    let given = first.publish(&[event_of(x), event_of(x)]).await.unwrap();
    assert_eq!(ids(&second.read(1, SHORT).await.unwrap()), given[..1]);
    assert!(first.read(1, SHORT).await.unwrap().is_empty(), "held back");
    // As after a pause of the whole process: its key is gone, and others have helped themselves.
    let keys: Vec<String> = send(&shared_url(), &["KEYS", &format!("{}:*alive*", config.stream)]).await;
    assert_eq!(keys.len(), 2);
    send::<u64>(&shared_url(), &["DEL", &keys[0], &keys[1]]).await;
    let claim = ["XCLAIM", &config.stream, &config.group, "third", "0", &given[1].to_string()];
    send::<redis::Value>(&shared_url(), &claim).await;
    second.acknowledge(&given[..1]).await.unwrap();
    assert!(first.read(1, SHORT).await.unwrap().is_empty(), "it is the third's now");
    // Who never joined is dead, and the entry comes back.
    let read = read_all(&first, 1).await;
    assert_eq!(ids(&read), given[1..]);
}

#[tokio::test]
async fn a_group_that_vanished_is_made_anew_and_reads_from_the_start() {
    let config = config(&shared_url());
    let bus = bus(&config).await;
    let given = bus.publish(&events(4)).await.unwrap();
    assert_eq!(bus.read(2, SHORT).await.unwrap().len(), 2);
    send::<u64>(&shared_url(), &["XGROUP", "DESTROY", &config.stream, &config.group]).await;
    let read: HashSet<_> = ids(&read_all(&bus, 4).await).into_iter().collect();
    assert_eq!(read, given.into_iter().collect());
}

#[tokio::test]
async fn after_everything_was_flushed_what_is_published_next_is_carried() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let (first, second) = (bus(&config).await, bus(&config).await);
    let x = Uuid::new_v4();
    let given = first.publish(&[event_of(x), event_of(x), event_of(x)]).await.unwrap();
    assert_eq!(first.read(1, SHORT).await.unwrap().len(), 1);
    assert!(second.read(10, SHORT).await.unwrap().is_empty(), "held back");
    send::<()>(&server.url(), &["FLUSHALL"]).await;
    // What had been read before is not lost with the server's data.
    assert_eq!(ids(&read_all(&second, 2).await), given[1..]);
    first.acknowledge(&given[..1]).await.unwrap();
    second.acknowledge(&given[1..]).await.unwrap();
    let given = first.publish(&[event_of(x), event_of(x)]).await.unwrap();
    assert_eq!(ids(&read_all(&first, 2).await), given);
    first.acknowledge(&given).await.unwrap();
    assert_eq!(first.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_server_killed_and_restarted_has_lost_nothing_that_was_acknowledged() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let bus = bus(&config).await;
    let mut given = bus.publish(&events(50)).await.unwrap();
    let mut finished = ids(&bus.read(10, SHORT).await.unwrap());
    bus.acknowledge(&finished).await.unwrap();
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { bus.read(20, LONG).await }
    });
    let mut has = ids(&waiting.await.unwrap().unwrap());
    server.kill();
    let fault = bus.publish(&events(1)).await.unwrap_err();
    assert!(matches!(fault.class, FaultClass::Unavailable | FaultClass::Timeout), "{fault}");
    assert!(bus.read(10, SHORT).await.is_err());
    server.restart();
    given.extend(bus.publish(&events(5)).await.unwrap());
    bus.acknowledge(&has).await.unwrap();
    finished.append(&mut has);
    let rest = ids(&read_all(&bus, given.len() - finished.len()).await);
    bus.acknowledge(&rest).await.unwrap();
    finished.extend(rest);
    assert_eq!(finished, given);
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_read_that_waits_while_the_server_dies_fails_and_the_next_goes_on() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let bus = bus(&config).await;
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { bus.read(20, LONG).await }
    });
    while send::<String>(&server.url(), &["INFO", "clients"]).await.contains("blocked_clients:0") {
        tokio::task::yield_now().await;
    }
    server.kill();
    assert_eq!(waiting.await.unwrap().unwrap_err().class, FaultClass::Unavailable);
    server.restart();
    let given = bus.publish(&events(3)).await.unwrap();
    assert_eq!(ids(&read_all(&bus, 3).await), given);
}

#[tokio::test]
async fn entries_whose_delivery_was_lost_on_the_way_come_before_new_ones() {
    let server = Server::start(&[]);
    let config = another(&config(&server.url()));
    let bus = RedisBus::new(&config).unwrap();
    bus.prepare().await.unwrap();
    let given = bus.publish(&events(4)).await.unwrap();
    assert_eq!(ids(&bus.read(1, SHORT).await.unwrap()), given[..1]);
    // The server delivers to this consumer, and the answer goes nowhere.
    let (group, consumer, stream) = (&config.group, &config.consumer, &config.stream);
    let read = ["XREADGROUP", "GROUP", group, consumer, "COUNT", "2", "STREAMS", stream, ">"];
    send::<redis::Value>(&server.url(), &read).await;
    // Its connections break, as they do when an answer is lost.
    send::<u64>(&server.url(), &["CLIENT", "KILL", "TYPE", "normal"]).await;
    while bus.read(1, Duration::ZERO).await.is_ok_and(|read| read.is_empty()) {}
    let mut rest = Vec::new();
    while rest.len() < 3 {
        rest.extend(bus.read(10, SHORT).await.unwrap_or_default());
    }
    assert_eq!(ids(&rest), given[1..]);
    assert_eq!(rest.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn a_wrong_password_and_a_closed_port_are_told_apart() {
    let server = Server::start(&["--requirepass", "right"]);
    let faults = [
        ("redis://:wrong@", FaultClass::Denied),
        ("redis://", FaultClass::Denied),
        ("redis://:right@", FaultClass::Busy),
    ];
    for (prefix, class) in faults {
        let url = server.url().replace("redis://", prefix);
        let config = RedisConfig { max_backlog: 0, room_wait: Duration::ZERO, ..config(&url) };
        let bus = RedisBus::new(&config).unwrap();
        assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, class, "{prefix}");
        // It says the same when asked again.
        assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, class, "{prefix}");
    }
    let nobody = RedisBus::new(&config("redis://127.0.0.1:1/0")).unwrap();
    assert_eq!(nobody.prepare().await.unwrap_err().class, FaultClass::Unavailable);
}

#[tokio::test]
async fn full_memory_is_busy_and_a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory", "3mb"]);
    let config = config(&server.url());
    let bus = bus(&config).await;
    let fault = loop {
        if let Err(fault) = bus.publish(&events(500)).await {
            break fault;
        }
    };
    assert_eq!(fault.class, FaultClass::Busy, "{fault}");
    let evicting = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused =
        RedisBus::new(&another(&super::surroundings::config(&evicting.url()))).unwrap().prepare().await.unwrap_err();
    assert_eq!(refused.class, FaultClass::Misconfigured, "{refused}");
}

#[tokio::test]
async fn a_replica_is_unavailable_for_writing() {
    let server = Server::start(&["--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes"]);
    let bus = RedisBus::new(&config(&server.url())).unwrap();
    assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, FaultClass::Unavailable);
}
