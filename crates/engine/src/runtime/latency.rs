//! How long changes took to become visible in a store, over the last minutes. Pure.

use std::collections::BTreeMap;

use chunk_sync_model::{Target, Time};

/// Minutes that are kept.
const MINUTES: usize = 5;
/// Buckets of a minute. Each is wider than the one before it by an eighth of a doubling, so that a quantile is exact to 9 %;
/// the last one begins at 26 minutes.
const BUCKETS: usize = 192;
const PER_DOUBLING: f64 = 8.0;
/// Upper bound of the first bucket, in seconds.
const FIRST: f64 = 0.0001;

/// Quantiles of a time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the changes took no longer.
    pub p50: f64,
    /// 95 of 100 changes took no longer.
    pub p95: f64,
}

/// The times of one store.
#[derive(Clone, Debug, Default)]
struct Store {
    /// The counts of each minute, by its number since 1970.
    minutes: BTreeMap<i64, Vec<u32>>,
}

/// The times of each store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(BTreeMap<Target, Store>);

impl Latencies {
    /// Notes that a change took so many seconds and became visible at `at`.
    pub(crate) fn note(&mut self, target: Target, seconds: f64, at: Time) {
        let minutes = &mut self.0.entry(target).or_default().minutes;
        let counts = minutes.entry(minute(at)).or_insert_with(|| vec![0; BUCKETS]);
        counts[bucket(seconds)] += 1;
        while minutes.len() > MINUTES {
            minutes.pop_first();
        }
    }

    /// The quantiles of each store that received changes in the last five minutes before `now`.
    pub(crate) fn spreads(&self, now: Time) -> BTreeMap<Target, Spread> {
        self.0.iter().filter_map(|(target, store)| Some((*target, store.spread(minute(now))?))).collect()
    }
}

impl Store {
    fn spread(&self, now: i64) -> Option<Spread> {
        let mut counts = [0_u64; BUCKETS];
        let kept = i64::try_from(MINUTES).unwrap_or(i64::MAX);
        for of_minute in self.minutes.range(now.saturating_sub(kept) + 1..).map(|(_, counts)| counts) {
            counts.iter_mut().zip(of_minute).for_each(|(all, one)| *all += u64::from(*one));
        }
        Some(Spread { p50: quantile(&counts, 50)?, p95: quantile(&counts, 95)? })
    }
}

fn minute(at: Time) -> i64 {
    at.micros().div_euclid(60_000_000)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the number of buckets")]
fn bucket(seconds: f64) -> usize {
    let place = (seconds / FIRST).log2() * PER_DOUBLING;
    // Also true for a time of zero, and for a negative one of a clock that was set back.
    if place.is_nan() || place <= 0.0 { 0 } else { (place.ceil() as usize).min(BUCKETS - 1) }
}

/// The upper bound, in seconds, of the bucket below which `percent` of the counts lie; `None` if nothing was counted.
#[allow(clippy::cast_precision_loss, reason = "a small number of buckets")]
fn quantile(counts: &[u64; BUCKETS], percent: u64) -> Option<f64> {
    let rank = (counts.iter().sum::<u64>() * percent).div_ceil(100);
    let mut below = 0;
    let place = counts.iter().position(|count| {
        below += count;
        below >= rank
    })?;
    (rank > 0).then(|| FIRST * (place as f64 / PER_DOUBLING).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn quantiles_are_exact_to_a_tenth() {
        let mut latencies = Latencies::default();
        for millis in 1..=1_000_u32 {
            latencies.note(Target::Qdrant, f64::from(millis) / 1_000.0, at(600 + i64::from(millis) / 10));
        }
        let Spread { p50, p95 } = latencies.spreads(at(701))[&Target::Qdrant];
        assert!((0.5..0.55).contains(&p50) && (0.95..1.05).contains(&p95), "{p50} {p95}");
    }

    #[test]
    fn only_the_last_five_minutes_count() {
        let mut latencies = Latencies::default();
        latencies.note(Target::Neo4j, 30.0, at(0));
        for minute in 1..5 {
            latencies.note(Target::Neo4j, 0.010, at(minute * 60));
        }
        assert!(latencies.spreads(at(299))[&Target::Neo4j].p95 > 30.0);
        assert!(latencies.spreads(at(300))[&Target::Neo4j].p95 < 0.011);
        assert_eq!(latencies.spreads(at(3_000)), BTreeMap::new());
    }

    #[test]
    fn odd_times_have_a_bucket() {
        for seconds in [-5.0, 0.0, f64::NAN, 1e-9] {
            assert_eq!(bucket(seconds), 0, "{seconds}");
        }
        assert_eq!(bucket(1e12), BUCKETS - 1);
    }
}
