//! A server that restarts, loses its data or refuses commands.

use std::time::Duration;

use chunk_sync_connectors::MaxBacklog;
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Depth, FaultClass, Handover};

use super::server::Server;
use super::surroundings::{LONG, SHORT, another, bus, config, events, ids, read_all, reader, send, shared_url};

#[tokio::test]
async fn a_group_that_vanished_is_created_again_and_reads_from_the_start() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(4)).await.unwrap();
    assert_eq!(bus.read(2, SHORT).await.unwrap().len(), 2);
    send::<u64>(&shared_url(), &["XGROUP", "DESTROY", &config.stream, &config.group]).await;
    assert_eq!(ids(&read_all(&bus, 2).await), given[2..], "an entry in hand was delivered twice");
    bus.acknowledge(&given).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn events_published_after_flushall_are_delivered() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(3)).await.unwrap();
    assert_eq!(bus.read(1, SHORT).await.unwrap().len(), 1);
    send::<()>(&server.url(), &["FLUSHALL"]).await;
    bus.acknowledge(&given[..1]).await.unwrap();
    assert!(bus.read(10, SHORT).await.unwrap().is_empty());
    let given = bus.publish(&events(2)).await.unwrap();
    assert_eq!(ids(&read_all(&bus, 2).await), given);
    bus.acknowledge(&given).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_server_killed_and_restarted_has_lost_nothing_that_was_acknowledged() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
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
async fn a_read_that_waits_while_the_server_dies_fails_and_the_next_one_works() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
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
async fn entries_whose_delivery_was_lost_are_delivered_before_new_ones() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(4)).await.unwrap();
    assert_eq!(ids(&bus.read(1, SHORT).await.unwrap()), given[..1]);
    // The server delivers to a consumer that does not process the answer.
    let (group, stream) = (&config.group, &config.stream);
    let read = ["XREADGROUP", "GROUP", group, "lost", "COUNT", "2", "STREAMS", stream, ">"];
    send::<redis::Value>(&server.url(), &read).await;
    // The connections break, as they do when an answer is lost.
    send::<u64>(&server.url(), &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let mut rest = Vec::new();
    while rest.len() < 3 {
        rest.extend(bus.read(10, SHORT).await.unwrap_or_default());
    }
    assert_eq!(ids(&rest), given[1..]);
    assert_eq!(rest.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_wrong_password_and_a_closed_port_differ_in_class() {
    let server = Server::start(&["--requirepass", "right"]);
    let faults = [
        ("redis://:wrong@", FaultClass::Denied),
        ("redis://", FaultClass::Denied),
        ("redis://:right@", FaultClass::Busy),
    ];
    for (prefix, class) in faults {
        let url = server.url().replace("redis://", prefix);
        let config = RedisConfig { max_backlog: MaxBacklog::of_entries(0), room_wait: Duration::ZERO, ..config(&url) };
        let bus = RedisBus::new(&config).unwrap();
        assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, class, "{prefix}");
        // A second attempt fails with the same class.
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
    // Another process takes over, reads and acknowledges, which frees memory.
    let next = reader(&config, Handover::Silent).await;
    next.epoch().await.unwrap();
    loop {
        let read = next.read(500, SHORT).await.unwrap();
        if read.is_empty() {
            break;
        }
        next.acknowledge(&ids(&read)).await.unwrap();
    }
    next.trim().await.unwrap();
    next.publish(&events(1)).await.unwrap();
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
