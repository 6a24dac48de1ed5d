//! What no merge may do: count without bound within one microsecond, or come near the greatest version.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::merge::{Change, refusal};
use chunk_sync_model::record::MOST_AT_ONCE;
use chunk_sync_model::{Record, SyncVersion, Writer};
use uuid::Uuid;

use support::{MergedChunk, chunk, update};

#[test]
fn a_writer_changes_a_chunk_no_more_than_1024_times_in_one_microsecond() {
    let (mut held, one) = (MergedChunk::default(), chunk("claude", "the content", &[]));
    let mut refused = 0;
    for i in 0..3_000_u128 {
        let change = Change { event: Uuid::from_u128(i), ..update(Writer::Claude, 7, &one) };
        match refusal(held.record.as_ref(), &change) {
            Some(invalid) => {
                assert_eq!(invalid.field, "timestamp");
                refused += 1;
            }
            None => drop(held.take(&change)),
        }
    }
    assert_eq!(refused, 3_000 - MOST_AT_ONCE);
    assert!(held.record.as_ref().unwrap().encode().unwrap().len() < 20_000);
    assert!(refusal(held.record.as_ref(), &update(Writer::Claude, 8, &one)).is_none(), "the next time is free again");
}

#[test]
fn nothing_is_merged_that_would_come_near_the_greatest_version() {
    let one = chunk("claude", "the content", &[]);
    let near = i64::try_from(SyncVersion::CEILING.get()).unwrap();
    assert_eq!(refusal(None, &update(Writer::Postgres, near, &one)).unwrap().field, "timestamp");
    assert!(refusal(None, &update(Writer::Postgres, near - 1, &one)).is_none());
    let frozen = Record { version: SyncVersion::MAX, ..Record::default() };
    assert_eq!(refusal(Some(&frozen), &update(Writer::Claude, 1, &one)).unwrap().field, "chunk.id");
}
