//! Contract of the system of record about idle records and erasures.

use chunk_sync_model::Time;
use uuid::Uuid;

use super::{Port, event, held, merged};
use crate::Fixture;
use crate::merging::Merging as _;
use crate::states::states;

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
