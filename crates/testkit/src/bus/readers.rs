//! Contract of reads that wait, are dropped, or run at the same time.

use std::sync::Arc;
use std::time::Instant;

use super::{BusFixture, LONG, SHORT, event_of, events, ids, nothing_left, read};

pub async fn a_waiting_read_wakes_when_something_comes<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    let began = Instant::now();
    nothing_left(&*bus).await;
    assert!(began.elapsed() >= SHORT, "the read waits");
    let reader = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { bus.read(10, LONG).await.unwrap() }
    });
    bus.publish(&events(1)).await.unwrap();
    let came = tokio::time::timeout(LONG / 2, reader).await.expect("the read wakes before its wait ends").unwrap();
    assert_eq!(came.len(), 1);
}

pub async fn a_call_that_is_not_polled_blocks_no_other<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(200)).await.unwrap();
    let reader = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { read(&*bus, 200).await }
    });
    for _ in 0..100 {
        // Polled once and then left pending, as in a `select!` that is busy with another branch.
        let mut left = bus.depth();
        let _ = futures::poll!(&mut left);
        let depth = tokio::time::timeout(LONG, bus.depth()).await;
        depth.expect("`depth` waits for a call that no task polls").unwrap();
    }
    reader.await.unwrap();
}

pub async fn a_dropped_read_loses_nothing<F: BusFixture>() {
    let fixture = F::fresh().await;
    let (bus, events) = (fixture.port(), events(60));
    let mut came = Vec::new();
    for some in events.chunks(3) {
        let publishing = tokio::spawn({
            let (bus, some) = (Arc::clone(&bus), some.to_vec());
            async move { bus.publish(&some).await.unwrap() }
        });
        // Either may win: a read that has entries returns them, a dropped read took none.
        tokio::select! {
            biased;
            deliveries = bus.read(10, LONG) => came.extend(deliveries.unwrap()),
            published = publishing => drop(published.unwrap()),
        }
    }
    came.extend(read(&*bus, 60 - came.len()).await);
    came.sort_by_key(|delivery| delivery.id);
    let mut seen: Vec<_> = came.iter().map(|delivery| event_of(delivery).event_id).collect();
    let mut published: Vec<_> = events.iter().map(|event| event.event_id).collect();
    seen.sort_unstable();
    published.sort_unstable();
    assert_eq!(seen, published);
}

pub async fn two_readers_never_get_the_same<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(300)).await.unwrap();
    let reader = || {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            let mut all = Vec::new();
            loop {
                let some = bus.read(7, SHORT).await.unwrap();
                if some.is_empty() {
                    return all;
                }
                all.extend(ids(&some));
            }
        })
    };
    let (one, two) = (reader(), reader());
    let mut all = one.await.unwrap();
    all.extend(two.await.unwrap());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 300);
}
