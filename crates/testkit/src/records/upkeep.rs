//! Contract of the system of record about idle records, erasures and the watch list.

use chunk_sync_engine::ports::Watched;
use chunk_sync_model::{Target, Time};
use uuid::Uuid;

use super::pending_writes::pending_write;
use super::{Port, event, held, merged};
use crate::Fixture;
use crate::merging::Merging as _;
use crate::states::states;
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;

fn in_hours(hours: i64) -> Time {
    let now: Time = jiff::Timestamp::now().into();
    Time::from_micros(now.micros() + hours * HOUR)
}

pub async fn a_record_is_idle_until_a_merge_writes_it_and_once_until_it_is_swept<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let state = states(1).remove(0);
    let id = state.chunk.id;
    let merge = || async {
        records.merge(&[id], &|mut found| vec![merged(found.remove(0), &event(&state))]).await.unwrap();
    };
    merge().await;
    assert!(records.idle(None, in_hours(-1), 10).await.unwrap().ids.is_empty(), "it was written just now");
    let page = records.idle(None, in_hours(1), 10).await.unwrap();
    assert_eq!((page.ids, page.last), (vec![id], None));
    assert_eq!(records.idle(None, in_hours(1), 1).await.unwrap().last, Some(id), "there may be more");
    records.swept(&[id], in_hours(-1)).await.unwrap();
    assert_eq!(records.idle(None, in_hours(1), 10).await.unwrap().ids, [id], "it was written since");
    records.swept(&[id], in_hours(1)).await.unwrap();
    assert!(records.idle(None, in_hours(1), 10).await.unwrap().ids.is_empty());
    merge().await;
    assert_eq!(records.idle(None, in_hours(1), 10).await.unwrap().ids, [id], "a merge makes it due again");
    assert!(held(&*records, id).await.record.is_some());
}

pub async fn watched_chunks_stay_until_the_latest_time<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let watched = |number: u128, target| Watched { id: Uuid::from_u128(number), target };
    let ids = |numbers: &[u128]| numbers.iter().map(|number| Uuid::from_u128(*number)).collect::<Vec<_>>();
    let some = [watched(3, Target::Qdrant), watched(1, Target::Qdrant), watched(2, Target::Neo4j)];
    let (now, hour) = (Duration::ZERO, Duration::from_secs(3_600));
    records.watch(&some, now).await.unwrap();
    records.watch(&some[..1], hour).await.unwrap();
    records.watch(&some[..1], now).await.unwrap();
    records.enqueue(&[pending_write(7, Target::Qdrant, 1)]).await.unwrap();
    records.watch_outbox(hour).await.unwrap();
    assert_eq!(records.watched(Target::Qdrant, None, 10).await.unwrap(), ids(&[1, 3, 7]));
    assert_eq!(records.watched(Target::Qdrant, Some(Uuid::from_u128(1)), 1).await.unwrap(), ids(&[3]));
    assert_eq!(records.watched(Target::Neo4j, None, 10).await.unwrap(), ids(&[2]));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(records.unwatch().await.unwrap(), 2);
    assert_eq!(records.watched(Target::Qdrant, None, 10).await.unwrap(), ids(&[3, 7]), "until the latest time");
}

pub async fn requested_erasures_stay_until_they_are_withdrawn<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let ids = [1, 2, 3].map(Uuid::from_u128);
    records.request_erasure(&ids[..2]).await.unwrap();
    records.request_erasure(&ids[1..]).await.unwrap();
    assert_eq!(records.requested_erasures(2).await.unwrap(), ids[..2]);
    records.withdraw_erasure(&ids[..2]).await.unwrap();
    assert_eq!(records.requested_erasures(9).await.unwrap(), ids[2..]);
    assert_eq!(records.erase_conflicts(ids[0]).await.unwrap(), 0);
}
