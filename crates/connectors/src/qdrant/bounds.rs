//! What one request may contain: the limits of the strict mode of the collection, and what the store learnt from refusals.

use std::sync::atomic::{AtomicUsize, Ordering};

use chunk_sync_engine::ports::{READ_BYTES, Write};
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{CollectionInfo, RetrievedPoint, Value};

/// Points of one request without other limits. The protocol does not limit the length of a message.
const POINTS: usize = 256;

/// Bytes of one request without other limits. The engine joins about 4 MiB in one call.
const BYTES: usize = 8 << 20;

/// The store never learns a smaller limit of bytes: a refusal of less is about one chunk.
const LEAST_BYTES: usize = 16 << 10;

/// The limits that the strict mode of a collection sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Writes in one request.
    pub(super) points: usize,
    /// Points on one page of a scroll.
    pub(super) page: usize,
    /// Whether the server counts points exactly.
    pub(super) counts_exactly: bool,
}

impl Bounds {
    /// The limits of this collection. A write has two conditions in the filter of its request, and a delete one more. The
    /// rate limit counts points and conditions per minute: a request takes at most a fourth.
    pub(super) fn of(held: &CollectionInfo) -> Self {
        let strict = held.config.as_ref().and_then(|config| config.strict_mode_config.clone()).unwrap_or_default();
        if strict.enabled != Some(true) {
            return Self { points: POINTS, page: POINTS, counts_exactly: true };
        }
        let limits = [
            strict.upsert_max_batchsize,
            strict.filter_max_conditions.map(|conditions| conditions.saturating_sub(1) / 2),
            strict.condition_max_size,
            strict.write_rate_limit.map(|rate| u64::from(rate) / 12),
        ];
        let least = |limit: Option<u64>| limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(POINTS);
        let points = limits.into_iter().map(least).fold(POINTS, usize::min);
        let page = least(strict.max_query_limit.map(u64::from)).min(POINTS);
        Self { points: points.max(1), page: page.max(1), counts_exactly: strict.search_allow_exact != Some(false) }
    }

    /// Plans the requests for these writes, in their order: each has as many as are permitted, of about so many bytes.
    pub(super) fn requests<'a>(&self, mut writes: &'a [Write], bytes: usize) -> Vec<&'a [Write]> {
        let mut requests = Vec::new();
        while !writes.is_empty() {
            let mut size = 0;
            let fits = |write: &&Write| {
                size += write.weight();
                size <= bytes
            };
            let count = writes.iter().take(self.points).take_while(fits).count().max(1);
            let (request, rest) = writes.split_at(count);
            requests.push(request);
            writes = rest;
        }
        requests
    }
}

/// The most bytes of a request that are planned, as far as the store has learnt it. It only falls: a proxy that gets
/// another limit is used fully after the next start.
pub(super) struct Bytes(AtomicUsize);

impl Default for Bytes {
    fn default() -> Self {
        Self(AtomicUsize::new(BYTES))
    }
}

impl Bytes {
    pub(super) fn most(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A request of so many bytes was refused for its length.
    pub(super) fn refused(&self, bytes: usize) {
        self.0.fetch_min((bytes / 2).max(LEAST_BYTES), Ordering::Relaxed);
    }
}

/// How many points are read at once: as many as have about [`READ_BYTES`], by those that were read last. A point is as
/// long as its content, and the server cannot be asked for a number of bytes.
pub(super) struct ReadSize(AtomicUsize);

/// Points of the first read, whose length is not known.
const FIRST_READ: usize = 2;

impl Default for ReadSize {
    fn default() -> Self {
        Self(AtomicUsize::new(FIRST_READ))
    }
}

impl ReadSize {
    /// The points of the next read, at most `most`.
    pub(super) fn points(&self, most: usize) -> usize {
        self.0.load(Ordering::Relaxed).min(most).max(1)
    }

    /// So many points were asked for, and have so many bytes. The number grows slowly: those that follow may be longer.
    pub(super) fn note(&self, points: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(points) {
            let grown = self.0.load(Ordering::Relaxed).saturating_mul(2).min(POINTS);
            self.0.store((READ_BYTES / each.max(1)).clamp(1, grown), Ordering::Relaxed);
        }
    }
}

/// The bytes of the texts of a point.
pub(super) fn weight(point: &RetrievedPoint) -> usize {
    point.payload.values().map(text_bytes).sum()
}

fn text_bytes(value: &Value) -> usize {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.len(),
        Some(Kind::ListValue(list)) => list.values.iter().map(text_bytes).sum(),
        Some(Kind::StructValue(fields)) => fields.fields.iter().map(|(key, value)| key.len() + text_bytes(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use chunk_sync_testkit::states::{changed, states, write};
    use qdrant_client::qdrant::{CollectionConfig, StrictModeConfig};

    use super::*;

    fn bounds(strict: StrictModeConfig) -> Bounds {
        let config = CollectionConfig { strict_mode_config: Some(strict), ..CollectionConfig::default() };
        Bounds::of(&CollectionInfo { config: Some(config), ..CollectionInfo::default() })
    }

    #[test]
    fn the_smallest_limit_of_the_strict_mode_counts() {
        let strict = StrictModeConfig {
            enabled: Some(true),
            upsert_max_batchsize: Some(100),
            filter_max_conditions: Some(32),
            max_query_limit: Some(40),
            search_allow_exact: Some(false),
            ..StrictModeConfig::default()
        };
        assert_eq!(bounds(strict.clone()), Bounds { points: 15, page: 40, counts_exactly: false });
        let rate = StrictModeConfig { write_rate_limit: Some(100), ..strict.clone() };
        assert_eq!(bounds(rate).points, 8);
        let none = StrictModeConfig { filter_max_conditions: Some(0), ..strict.clone() };
        assert_eq!(bounds(none).points, 1);
        let off = StrictModeConfig { enabled: Some(false), ..strict };
        assert_eq!(bounds(off), Bounds { points: POINTS, page: POINTS, counts_exactly: true });
    }

    #[test]
    fn reads_follow_the_length_of_what_was_read() {
        let size = ReadSize::default();
        assert_eq!((size.points(256), size.points(1)), (FIRST_READ, 1));
        size.note(FIRST_READ, FIRST_READ * 100);
        assert_eq!(size.points(256), 2 * FIRST_READ, "it grows slowly");
        size.note(64, 64 * (READ_BYTES / 5));
        assert_eq!(size.points(256), 5);
        size.note(5, 5 * READ_BYTES * 2);
        assert_eq!(size.points(256), 1, "at least one");
        size.note(0, 0);
        assert_eq!(size.points(256), 1);
        (0..9).for_each(|_| size.note(1, 10));
        assert_eq!(size.points(256), POINTS);
    }

    #[test]
    fn requests_are_planned_by_points_and_by_bytes_in_the_order_of_the_writes() {
        let mut writes: Vec<Write> = states(10).iter().map(|state| write(state, 1)).collect();
        writes[4] = write(&changed(&states(5)[4], &"x".repeat(1 << 20)), 1);
        let planned = |points, bytes| {
            let requests = Bounds { points, page: 1, counts_exactly: true }.requests(&writes, bytes);
            let ids: Vec<_> = requests.concat().iter().map(|write| write.id).collect();
            assert_eq!(ids, writes.iter().map(|write| write.id).collect::<Vec<_>>());
            requests.iter().map(|request| request.len()).collect::<Vec<_>>()
        };
        assert_eq!(planned(3, BYTES), [3, 3, 3, 1]);
        assert_eq!(planned(256, 1 << 20), [4, 1, 5], "the long one is alone");
        assert_eq!(planned(256, 1), [1; 10]);
    }
}
