//! Entries that other clients or the server removed, groups without progress, and settings that lose entries.

use std::time::Duration;

use chunk_sync_connectors::redis::RedisConfig;
use chunk_sync_engine::ports::{Bus, DeadLetters as _, Depth, FaultClass, Handover};

use super::server::Server;
use super::surroundings::{
    SHORT, bus, config, event_of, events, foreign_client, ids, read_all, reader, send, shared_url,
};

#[tokio::test]
async fn entries_trimmed_unread_are_counted_and_change_the_epoch() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(50)).await.unwrap();
    let epoch = bus.epoch().await.unwrap();
    assert_eq!(bus.epoch().await.unwrap(), epoch);
    send::<u64>(&shared_url(), &["XTRIM", &config.stream, "MAXLEN", "10"]).await;
    assert_eq!(bus.depth().await.unwrap().oldest, Some(given[40]));
    let trimmed = bus.epoch().await.unwrap();
    assert_ne!(trimmed, epoch, "a position that this epoch confirms covers unread entries");
    assert_eq!(bus.lost(), 40);
    let read = read_all(&bus, 10).await;
    assert_eq!(ids(&read), given[40..]);
    bus.acknowledge(&ids(&read)).await.unwrap();
    assert_eq!((bus.epoch().await.unwrap(), bus.lost()), (trimmed, 40), "a loss counts once");
    assert_eq!(bus.condition().await.unwrap().lost, 40);
}

#[tokio::test]
async fn a_client_that_trims_while_the_service_is_stopped_is_noticed() {
    let config = config(&shared_url());
    drop(reader(&config, Handover::Orderly).await);
    let mut client = foreign_client(&shared_url()).await;
    for event in events(50) {
        let mut add = redis::cmd("XADD");
        add.arg(&config.stream).arg("MAXLEN").arg(10).arg("*");
        for (name, value) in event.to_fields() {
            add.arg(name).arg(value);
        }
        add.exec_async(&mut client).await.unwrap();
    }
    let bus = reader(&config, Handover::Silent).await;
    assert_eq!(read_all(&bus, 10).await.len(), 10);
    assert_eq!(bus.lost(), 40);
}

#[tokio::test]
async fn unread_entries_that_are_deleted_change_the_epoch_before_they_are_passed() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(6)).await.unwrap();
    assert_eq!(bus.read(1, SHORT).await.unwrap().len(), 1);
    let epoch = bus.epoch().await.unwrap();
    send::<u64>(&shared_url(), &["XDEL", &config.stream, &given[4].to_string(), &given[2].to_string()]).await;
    assert_ne!(bus.epoch().await.unwrap(), epoch);
    assert_eq!(read_all(&bus, 3).await.len(), 3);
    bus.acknowledge(&given).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
    bus.epoch().await.unwrap();
    assert_eq!(bus.lost(), 2, "they are counted once the stream is read to its end");
}

#[tokio::test]
async fn a_pending_entry_that_is_deleted_changes_the_epoch() {
    let config = config(&shared_url());
    let first = reader(&config, Handover::Silent).await;
    let given = first.publish(&events(3)).await.unwrap();
    assert_eq!(first.read(10, SHORT).await.unwrap().len(), 3);
    let epoch = first.epoch().await.unwrap();
    send::<u64>(&shared_url(), &["XDEL", &config.stream, &given[1].to_string()]).await;
    let next = reader(&config, Handover::Silent).await;
    assert_eq!(ids(&read_all(&next, 2).await), [given[0], given[2]]);
    assert_ne!(next.epoch().await.unwrap(), epoch);
    assert_eq!(next.lost(), 1);
}

#[tokio::test]
async fn a_group_that_is_moved_forward_changes_the_epoch() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    bus.publish(&events(5)).await.unwrap();
    let epoch = bus.epoch().await.unwrap();
    send::<String>(&shared_url(), &["XGROUP", "SETID", &config.stream, &config.group, "$"]).await;
    assert_ne!(bus.epoch().await.unwrap(), epoch);
}

#[tokio::test]
async fn a_deleted_stream_is_a_loss_with_a_number_and_a_deleted_group_is_none() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    bus.publish(&events(20)).await.unwrap();
    let read = bus.read(5, SHORT).await.unwrap();
    bus.acknowledge(&ids(&read)).await.unwrap();
    assert_eq!(bus.depth().await.unwrap().unread, 15);
    let epoch = bus.epoch().await.unwrap();
    send::<u64>(&shared_url(), &["XGROUP", "DESTROY", &config.stream, &config.group]).await;
    assert_ne!(bus.epoch().await.unwrap(), epoch);
    assert_eq!(bus.lost(), 0, "the stream still has all entries");
    assert_eq!(bus.depth().await.unwrap().unread, 20);
    send::<u64>(&shared_url(), &["DEL", &config.stream]).await;
    assert!(bus.read(5, SHORT).await.unwrap().is_empty());
    assert_eq!(bus.lost(), 20);
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_data_is_a_loss_with_a_number() {
    let mut server = Server::start(&["--appendonly", "no"]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    bus.publish(&events(12)).await.unwrap();
    bus.depth().await.unwrap();
    let epoch = bus.epoch().await.unwrap();
    server.kill();
    server.restart();
    assert_ne!(bus.epoch().await.unwrap(), epoch);
    assert_eq!(bus.lost(), 12);
}

#[tokio::test]
async fn the_depth_without_a_lag_reads_no_entry_but_the_first() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(3_000)).await.unwrap();
    assert_eq!(read_all(&bus, 1_000).await.len(), 1_000);
    send::<u64>(&server.url(), &["XDEL", &config.stream, &given[2_500].to_string()]).await;
    send::<String>(&server.url(), &["CONFIG", "RESETSTAT"]).await;
    let depth = bus.depth().await.unwrap();
    assert!((1_999..=2_000).contains(&depth.unread), "{depth:?}");
    let stats: String = send(&server.url(), &["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls="));
    assert!(calls.is_none_or(|calls| calls.starts_with("1,")), "{stats}");
    assert_eq!(read_all(&bus, 1_999).await.len(), 1_999);
    bus.acknowledge(&given).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_depth_never_shows_unread_entries_without_the_oldest() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let working = tokio::spawn({
        let bus = bus.clone();
        async move {
            bus.publish(&events(1_500)).await.unwrap();
            for _ in 0..1_500 {
                let read = bus.read(1, SHORT).await.unwrap();
                bus.acknowledge(&ids(&read)).await.unwrap();
            }
        }
    });
    while !working.is_finished() {
        let depth = bus.depth().await.unwrap();
        assert!(depth.unread + depth.pending == 0 || depth.oldest.is_some(), "{depth:?}");
    }
    working.await.unwrap();
}

#[tokio::test]
async fn a_full_memory_is_drained_and_publishers_are_busy() {
    let server = Server::start(&["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]);
    let config = config(&server.url());
    bus(&config).await;
    let mut client = foreign_client(&server.url()).await;
    let mut sent = 0;
    loop {
        let mut add = redis::cmd("XADD");
        add.arg(&config.stream).arg("*").arg("padding").arg("x".repeat(4_000));
        for (name, value) in event_of(uuid::Uuid::new_v4()).to_fields() {
            add.arg(name).arg(value);
        }
        if add.exec_async(&mut client).await.is_err() {
            break;
        }
        sent += 1;
    }
    send::<u64>(&server.url(), &["XGROUP", "DESTROY", &config.stream, &config.group]).await;
    // A process that starts now creates the group, and works.
    let bus = reader(&config, Handover::Silent).await;
    assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, FaultClass::Busy);
    assert_eq!(bus.depth().await.unwrap().unread, sent);
    let epoch = bus.epoch().await.unwrap();
    let read = read_all(&bus, usize::try_from(sent).unwrap()).await;
    let letter = chunk_sync_engine::ports::DeadLetter {
        id: Some(read[0].id),
        fields: read[0].fields.clone(),
        at: chunk_sync_model::Time::from_micros(0),
        class: FaultClass::Rejected,
        error: "refused".to_owned(),
        field: None,
        attempts: 1,
        missing: Vec::new(),
    };
    bus.dead_letter(&[letter]).await.unwrap();
    bus.acknowledge(&ids(&read)).await.unwrap();
    bus.trim().await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth { dead: 1, ..Depth::default() });
    assert_eq!(bus.publish(&events(1)).await.unwrap().len(), 1);
    assert_eq!((bus.epoch().await.unwrap(), bus.lost()), (epoch, 0));
}

#[tokio::test]
async fn a_stream_that_the_server_evicts_is_a_loss_with_a_number() {
    let server = Server::start(&["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    assert_eq!(bus.condition().await.unwrap().warnings, Vec::<String>::new());
    bus.publish(&events(30)).await.unwrap();
    bus.depth().await.unwrap();
    send::<String>(&server.url(), &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
    let warnings = bus.condition().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("set it to noeviction")), "{warnings:?}");
    let big = "x".repeat(500_000);
    for number in 0..2_000 {
        send::<String>(&server.url(), &["SET", &format!("filler:{number}"), &big]).await;
        if send::<u64>(&server.url(), &["EXISTS", &config.stream]).await == 0 {
            bus.read(1, SHORT).await.unwrap();
            assert_eq!(bus.lost(), 30);
            return;
        }
    }
    panic!("the stream was not evicted");
}

#[tokio::test]
async fn a_policy_that_evicts_only_keys_with_a_ttl_is_accepted_with_a_warning() {
    let server = Server::start(&["--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"]);
    let config = config(&server.url());
    let bus = reader(&config, Handover::Silent).await;
    let warnings = bus.condition().await.unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    send::<u64>(&server.url(), &["EXPIRE", &config.stream, "1000"]).await;
    let warnings = bus.condition().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("PERSIST")), "{warnings:?}");
    send::<String>(&server.url(), &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert_eq!(bus.prepare().await.unwrap_err().class, FaultClass::Misconfigured);
}

#[tokio::test]
async fn a_group_without_progress_is_reported_and_passed_only_if_configured() {
    let config = RedisConfig { idle_after: Duration::from_millis(20), ..config(&shared_url()) };
    let workers = reader(&config, Handover::Silent).await;
    let others = bus(&RedisConfig { group: "others".to_owned(), ..config.clone() }).await;
    let given = workers.publish(&events(10)).await.unwrap();
    read_all(&workers, 10).await;
    workers.acknowledge(&given).await.unwrap();
    let reported = async {
        loop {
            assert_eq!(workers.trim().await.unwrap(), 0);
            let warnings = workers.condition().await.unwrap().warnings;
            if warnings.iter().any(|warning| warning.contains("others") && warning.contains("XGROUP DESTROY")) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reported).await.expect("the group was not reported");
    assert_eq!(others.depth().await.unwrap().unread, 10);
    let passing = bus(&RedisConfig { trim_past_idle: true, ..config.clone() }).await;
    assert_eq!(passing.trim().await.unwrap(), 9);
}
