//! Handover from one reader to the next: order, delivery counts, and readers that lost the lease without noticing.

use std::task::Poll;

use chunk_sync_engine::ports::{Bus, Delivery, Depth, Fault, Handover};
use redis::Value;

use super::surroundings::{LONG, SHORT, bus, config, events, ids, read_all, reader, send, shared_url};

#[tokio::test]
async fn unfinished_entries_come_first_and_count_only_after_a_silent_end() {
    let config = config(&shared_url());
    let first = reader(&config, Handover::Silent).await;
    let given = first.publish(&events(5)).await.unwrap();
    assert_eq!(ids(&first.read(3, SHORT).await.unwrap()), given[..3]);
    for (handover, attempt) in
        [(Handover::Orderly, 1), (Handover::Silent, 2), (Handover::Silent, 3), (Handover::Orderly, 3)]
    {
        let next = reader(&config, handover).await;
        let read = next.read(3, SHORT).await.unwrap();
        assert_eq!(ids(&read), given[..3]);
        assert!(read.iter().all(|delivery| delivery.attempt == attempt && delivery.again), "{handover:?}: {read:?}");
    }
    let last = reader(&config, Handover::Orderly).await;
    let read = read_all(&last, 5).await;
    assert_eq!(ids(&read), given);
    assert!(!read[3].again && read[3].attempt == 1, "{:?}", read[3]);
    last.acknowledge(&given).await.unwrap();
    assert_eq!(last.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn entries_taken_by_a_process_without_the_lease_are_claimed_back_in_order() {
    let config = config(&shared_url());
    let old = reader(&config, Handover::Silent).await;
    let given = old.publish(&events(9)).await.unwrap();
    assert_eq!(ids(&old.read(3, SHORT).await.unwrap()), given[..3]);
    let new = reader(&config, Handover::Silent).await;
    assert_eq!(ids(&new.read(2, SHORT).await.unwrap()), given[..2]);
    // The old reader claims the entries that the new one claimed from it, and reads new ones. It returns no entry in hand.
    assert_eq!(ids(&old.read(4, SHORT).await.unwrap()), given[3..5]);
    let read = read_all(&new, 7).await;
    assert_eq!(ids(&read), given[2..], "an entry was lost, or one in hand was delivered twice");
    new.acknowledge(&given).await.unwrap();
    assert_eq!(new.depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn no_process_blocks_in_a_group_read() {
    let config = config(&shared_url());
    let old = reader(&config, Handover::Silent).await;
    let waiting = tokio::spawn({
        let old = old.clone();
        async move { old.read(10, LONG).await }
    });
    // While it waits, the server delivers no published entry to it.
    let new = reader(&config, Handover::Silent).await;
    while send::<String>(&shared_url(), &["CLIENT", "LIST"]).await.lines().all(|line| !line.contains("cmd=xread ")) {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    let given = new.publish(&events(3)).await.unwrap();
    assert_eq!(ids(&read_all(&new, 3).await), given);
}

#[tokio::test]
async fn entries_of_a_lost_answer_come_before_new_ones_and_are_not_counted() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let given = bus.publish(&events(30)).await.unwrap();
    let mut read = bus.read(1, SHORT).await.unwrap();
    let mut dropped = 0;
    while dropped < 3 {
        match poll_thrice(bus.read(1, SHORT)).await {
            // The answer was faster than the drop.
            Some(answer) => read.extend(answer),
            None => dropped += 1,
        }
        assert!(read.len() < 27, "only {dropped} calls were dropped before their answers arrived");
    }
    let rest = read_all(&bus, 30 - read.len()).await;
    read.extend(rest);
    assert_eq!(ids(&read), given);
    assert!(read.iter().all(|delivery| delivery.attempt == 1), "{read:?}");
}

/// Sends a read, and drops it unless its answer arrives within three polls.
async fn poll_thrice(mut read: impl Future<Output = Result<Vec<Delivery>, Fault>> + Unpin) -> Option<Vec<Delivery>> {
    for _ in 0..3 {
        if let Poll::Ready(answer) = futures::poll!(&mut read) {
            return Some(answer.unwrap());
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn reads_are_bounded_by_bytes() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    let big = "x".repeat(3 << 20);
    let mut given = Vec::new();
    for _ in 0..40 {
        let id: String = send(&shared_url(), &["XADD", &config.stream, "*", "chunk", &big]).await;
        given.push(id);
    }
    let first = bus.read(40, SHORT).await.unwrap();
    assert!(first.len() <= 16, "{} entries of 3 MiB at once", first.len());
    let next = reader(&config, Handover::Silent).await;
    let claimed = next.read(40, SHORT).await.unwrap();
    assert!((1..=3).contains(&claimed.len()), "{} entries of 3 MiB claimed at once", claimed.len());
    let mut all = ids(&claimed);
    all.extend(ids(&read_all(&next, 40 - claimed.len()).await));
    assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), given);
    send::<u64>(&shared_url(), &["DEL", &config.stream]).await;
}

#[tokio::test]
async fn the_depth_never_shows_unread_entries_without_an_oldest_one() {
    let config = config(&shared_url());
    let bus = reader(&config, Handover::Silent).await;
    bus.publish(&events(2_000)).await.unwrap();
    let worker = tokio::spawn({
        let bus = bus.clone();
        async move {
            for _ in 0..2_000 {
                let read = bus.read(1, LONG).await.unwrap();
                bus.acknowledge(&ids(&read)).await.unwrap();
            }
        }
    });
    let asking = super::surroundings::bus(&config).await;
    let mut asked = 0;
    while !worker.is_finished() {
        let depth = asking.depth().await.unwrap();
        assert_eq!(depth.unread + depth.pending > 0, depth.oldest.is_some(), "{depth:?}");
        asked += 1;
    }
    worker.await.unwrap();
    assert!(asked > 100, "the depth was read only {asked} times");
}

#[tokio::test]
async fn a_stream_or_a_group_that_is_created_again_has_another_epoch() {
    let config = config(&shared_url());
    let bus = bus(&config).await;
    bus.publish(&events(1)).await.unwrap();
    let mut epochs = vec![bus.epoch().await.unwrap()];
    assert_eq!(bus.epoch().await.unwrap(), epochs[0]);
    assert_eq!(super::surroundings::bus(&config).await.epoch().await.unwrap(), epochs[0]);
    send::<Value>(&shared_url(), &["XGROUP", "DESTROY", &config.stream, &config.group]).await;
    epochs.push(bus.epoch().await.unwrap());
    send::<Value>(&shared_url(), &["DEL", &config.stream]).await;
    epochs.push(bus.epoch().await.unwrap());
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 3, "{epochs:?}");
}
