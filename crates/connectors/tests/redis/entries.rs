//! The life of an entry: publishing, reading, acknowledgement, dead letter, trimming.

use std::time::Duration;

use chunk_sync_engine::ports::{Bus, DeadLetter, DeadLetters as _, Depth, FaultClass, Handover};
use chunk_sync_model::{Event, Limits, Target, Time};
use uuid::Uuid;

use super::surroundings::{
    LONG, SHORT, another, config, event_of, events, foreign_client, ids, read_all, reader, send, shared_url, value,
};
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_connectors::{MAX_BACKLOG, MaxBacklog};

#[tokio::test]
async fn published_events_are_read_in_order_and_trimmed_once_finished() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let sent = events(1_234);
    let given = bus.publish(&sent).await.unwrap();
    assert_eq!(given.len(), sent.len());
    assert!(given.is_sorted());
    let depth = bus.depth().await.unwrap();
    assert_eq!(depth, Depth { unread: 1_234, pending: 0, dead: 0, oldest: Some(given[0]) });

    let read = read_all(&bus, sent.len()).await;
    assert_eq!(ids(&read), given);
    assert!(read.iter().all(|delivery| delivery.attempt == 1));
    let limits = Limits::default();
    let received: Vec<_> = read.iter().map(|delivery| Event::from_fields(&delivery.fields, &limits).unwrap()).collect();
    assert_eq!(received, sent);

    bus.acknowledge(&given[..1_000]).await.unwrap();
    let depth = bus.depth().await.unwrap();
    assert_eq!(depth, Depth { unread: 0, pending: 234, dead: 0, oldest: Some(given[1_000]) });
    assert_eq!(bus.trim().await.unwrap(), 1_000);
    bus.acknowledge(&given[1_000..]).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
    assert_eq!(bus.trim().await.unwrap(), 233, "not all but the last delivered entry were trimmed");
    assert!(bus.read(10, SHORT).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing_and_repeats_nothing() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(300)).await.unwrap();
    let mut read = Vec::new();
    for i in 0.. {
        // Dropped at varying points: before the command is sent, while it is on its way, when the answer is there.
        let patience = Duration::from_micros(i * 37 % 3_000 + i * 20);
        if let Ok(batch) = tokio::time::timeout(patience, bus.read(7, SHORT)).await {
            read.extend(ids(&batch.unwrap()));
        }
        if read.len() >= given.len() {
            break;
        }
    }
    assert_eq!(read, given);
    assert!(bus.read(10, SHORT).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_entry_published_while_a_read_waits_ends_the_wait() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { bus.read(10, LONG).await.unwrap() }
    });
    let given = bus.publish(&events(1)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("the read did not return").unwrap();
    assert_eq!(ids(&read), given);
}

#[tokio::test]
async fn fields_of_any_bytes_arrive_unchanged_and_survive_as_a_dead_letter() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let (name, raw) = (b"n\xff\x00".as_slice(), b"\xc3\x28\r\n\0".as_slice());
    let mut client = foreign_client(&shared_url()).await;
    let mut add = redis::cmd("XADD");
    add.arg(&config.stream).arg("*").arg("chunk").arg(raw).arg(name).arg("x").arg("chunk").arg("second");
    add.exec_async(&mut client).await.unwrap();

    let read = read_all(&bus, 1).await;
    let sent = vec![
        (b"chunk".to_vec(), raw.to_vec()),
        (name.to_vec(), b"x".to_vec()),
        (b"chunk".to_vec(), b"second".to_vec()),
    ];
    assert_eq!(read[0].fields, sent);
    let letter = DeadLetter {
        id: Some(read[0].id),
        fields: read[0].fields.clone(),
        at: Time::from_micros(1_700_000_000_000_000),
        class: FaultClass::Rejected,
        error: "chunk: is not UTF-8".to_owned(),
        field: Some("chunk".to_owned()),
        attempts: 1,
        missing: vec![Target::Qdrant],
    };
    bus.dead_letter(std::slice::from_ref(&letter)).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth { dead: 1, ..Depth::default() });
    let letters = bus.dead(None, 10).await.unwrap();
    assert_eq!(letters[0].fields, letter.fields());
    assert!(value(&letters[0].fields, "raw_b64").is_some());
    assert!(bus.dead(Some(letters[0].id), 10).await.unwrap().is_empty());
    assert!(bus.drop_dead(letters[0].id).await.unwrap());
    assert!(!bus.drop_dead(letters[0].id).await.unwrap());
}

#[tokio::test]
async fn an_entry_with_thousands_of_fields_can_be_read_and_dead_lettered() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let mut add = redis::cmd("XADD");
    add.arg(&config.stream).arg("*");
    for i in 0..20_000 {
        add.arg(i).arg("x");
    }
    add.exec_async(&mut foreign_client(&shared_url()).await).await.unwrap();
    let read = read_all(&bus, 1).await;
    let letter = DeadLetter {
        id: Some(read[0].id),
        fields: read[0].fields.clone(),
        at: Time::from_micros(0),
        class: FaultClass::Rejected,
        error: "event_id: missing".to_owned(),
        field: None,
        attempts: 1,
        missing: Vec::new(),
    };
    bus.dead_letter(&[letter]).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth { dead: 1, ..Depth::default() });
}

#[tokio::test]
async fn trimming_keeps_entries_that_any_group_has_not_finished() {
    let config = config(&shared_url());
    let workers = reader(&config, Handover::Silent).await;
    let others = reader(&RedisConfig { group: "others".to_owned(), ..config.clone() }, Handover::Silent).await;
    let given = workers.publish(&events(10)).await.unwrap();
    let read = read_all(&workers, 10).await;
    workers.acknowledge(&ids(&read)).await.unwrap();
    // The other group has read nothing, then has read four and finished two.
    assert_eq!(workers.trim().await.unwrap(), 0);
    let read = others.read(4, SHORT).await.unwrap();
    assert_eq!(ids(&read), given[..4]);
    others.acknowledge(&given[..2]).await.unwrap();
    assert_eq!(workers.trim().await.unwrap(), 2);
    assert_eq!(others.depth().await.unwrap().unread, 6);
    assert_eq!(ids(&read_all(&others, 6).await), given[4..]);
}

#[tokio::test]
async fn an_entry_deleted_before_it_was_finished_is_counted_as_lost() {
    let config = config(&shared_url());
    let first = reader(&config, Handover::Silent).await;
    let given = first.publish(&events(3)).await.unwrap();
    assert_eq!(first.read(10, SHORT).await.unwrap().len(), 3);
    send::<u64>(&shared_url(), &["XDEL", &config.stream, &given[1].to_string()]).await;
    let bus = reader(&config, Handover::Silent).await;
    let read = read_all(&bus, 2).await;
    assert_eq!(ids(&read), [given[0], given[2]]);
    assert_eq!(bus.lost(), 1);
    bus.acknowledge(&ids(&read)).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn unread_entries_are_counted_when_the_server_reports_no_lag() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(5)).await.unwrap();
    assert_eq!(bus.read(1, SHORT).await.unwrap().len(), 1);
    send::<u64>(&shared_url(), &["XDEL", &config.stream, &given[3].to_string()]).await;
    let depth = bus.depth().await.unwrap();
    // The deleted one counts until the stream is read past it.
    assert_eq!((depth.unread, depth.pending, depth.oldest), (4, 1, Some(given[0])));
    bus.acknowledge(&given[..1]).await.unwrap();
    assert_eq!(bus.depth().await.unwrap().oldest, Some(given[1]));
    bus.acknowledge(&ids(&read_all(&bus, 3).await)).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn publishers_wait_for_room_and_fail_with_busy_when_there_is_none() {
    let config = RedisConfig {
        max_backlog: MaxBacklog::of_entries(10),
        room_wait: Duration::from_millis(300),
        ..config(&shared_url())
    };
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(10)).await.unwrap();
    let fault = bus.publish(&events(1)).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Busy);
    // Reading makes no room, acknowledging does.
    assert_eq!(read_all(&bus, 10).await.len(), 10);
    assert_eq!(bus.publish(&events(1)).await.unwrap_err().class, FaultClass::Busy);
    let patient = RedisBus::new(&RedisConfig { room_wait: LONG, ..another(&config) }).unwrap();
    let publishing = tokio::spawn(async move { patient.publish(&events(1)).await });
    bus.acknowledge(&given).await.unwrap();
    assert_eq!(publishing.await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn events_published_before_the_group_exists_are_read() {
    let config = config(&shared_url());
    let early = RedisBus::new(&another(&config)).unwrap();
    let given = early.publish(&events(3)).await.unwrap();
    assert_eq!(early.depth().await.unwrap().unread, 3);
    let bus = reader(&config, Handover::Silent).await;
    assert_eq!(ids(&read_all(&bus, 3).await), given);
}

#[tokio::test]
async fn an_event_of_a_foreign_client_is_an_event() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let chunk = Uuid::new_v4();
    let mut add = redis::cmd("XADD");
    add.arg(&config.stream).arg("*").arg("ignored").arg("x");
    for (name, value) in event_of(chunk).to_fields() {
        add.arg(name).arg(value);
    }
    add.exec_async(&mut foreign_client(&shared_url()).await).await.unwrap();
    let read = read_all(&bus, 1).await;
    assert_eq!(Event::from_fields(&read[0].fields, &Limits::default()).unwrap().chunk_id(), chunk);
}

#[tokio::test]
async fn reads_are_bounded_in_bytes_and_a_long_entry_is_dead_lettered_in_the_server() {
    let config = RedisConfig { entry_max_bytes: 1 << 20, ..config(&shared_url()) };
    let bus = reader(&config, Handover::Silent).await;
    let mut client = foreign_client(&shared_url()).await;
    let mut add = async |bytes: usize| {
        let mut add = redis::cmd("XADD");
        add.arg(&config.stream).arg("*").arg("source").arg("claude").arg("chunk").arg("x".repeat(bytes));
        add.query_async::<String>(&mut client).await.unwrap()
    };
    let mut sent = Vec::new();
    for _ in 0..40 {
        sent.push(add(1_000_000).await);
    }
    let long = add(20 << 20).await;
    sent.push(add(10).await);
    let mut read = Vec::new();
    while read.len() < sent.len() {
        let batch = bus.read(256, LONG).await.unwrap();
        assert!(batch.iter().map(chunk_sync_engine::ports::Delivery::bytes).sum::<usize>() <= 10 << 20);
        assert!(batch.iter().all(|delivery| delivery.attempt == 1), "what was left over is not counted");
        read.extend(ids(&batch));
    }
    assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), sent);
    let letters = bus.dead(None, 10).await.unwrap();
    let text = |name| letters[0].text(name).unwrap().into_owned();
    assert_eq!((letters.len(), text("stream_id"), text("field")), (1, long, "event".to_owned()));
    assert_eq!(text("error"), "20971537 bytes; the maximum is 1048576 (limits.event_max_bytes); split the chunk");
    assert_eq!((text("source"), text("chunk").len()), ("claude".to_owned(), 1024), "read in part, kept whole");
    bus.acknowledge(&read).await.unwrap();
    assert_eq!(bus.depth().await.unwrap(), Depth { dead: 1, ..Depth::default() });
}

#[tokio::test]
async fn an_entry_id_in_the_future_does_not_move_the_clock() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let event = events(1).remove(0);
    let mut command = redis::cmd("XADD");
    command.arg(&config.stream).arg("9999999999999-0");
    for (name, value) in event.to_fields() {
        command.arg(name).arg(value);
    }
    let mut client = foreign_client(&shared_url()).await;
    command.query_async::<String>(&mut client).await.unwrap();
    let delivery = read_all(&bus, 1).await.remove(0);
    let now = bus.now().await.unwrap();
    assert!(delivery.added_at > now && delivery.read_at <= now);
    assert_eq!(delivery.clock(), delivery.read_at);
}

#[tokio::test]
async fn a_bus_is_bounded_in_bytes() {
    let max_backlog = MaxBacklog { bytes: 100_000, ..MAX_BACKLOG };
    let bus = reader(&RedisConfig { max_backlog, ..config(&shared_url()) }, Handover::Silent).await;
    chunk_sync_testkit::bus::a_bound_in_bytes_holds(&*bus).await;
}
