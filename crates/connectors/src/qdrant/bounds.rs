//! What one request may contain: the limits of the strict mode of the collection, and what the store learnt from refusals.

use std::sync::atomic::{AtomicUsize, Ordering};

use qdrant_client::qdrant::CollectionInfo;

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
}

/// The most bytes of a request that were not refused, as far as the store has learnt it. It only falls: a proxy that gets
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

#[cfg(test)]
mod tests {
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
}
