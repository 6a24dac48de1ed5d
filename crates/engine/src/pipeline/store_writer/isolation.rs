//! Which chunks are sent to a store apart from all others, because a call that contained them took too long although the
//! store answers other calls. Pure: ids and times, no I/O.
//!
//! A group that takes too long is split in two by weight, so that one heavy chunk is soon alone. A chunk that takes too
//! long alone is the culprit: it is repeated alone with growing pauses. Meanwhile all other chunks go on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// The first and the longest pause before a culprit is repeated.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The number of culprits that are remembered.
const REMEMBERED: usize = 10_000;

/// A chunk, and about how many bytes its write has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weighed {
    pub(super) id: Uuid,
    pub(super) weight: usize,
}

/// The groups that are sent apart.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    groups: VecDeque<Group>,
    /// How often each culprit took too long since it last succeeded.
    culprits: BTreeMap<Uuid, u32>,
}

#[derive(Debug)]
struct Group {
    ids: Vec<Uuid>,
    due: Instant,
}

impl Isolation {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The number of culprits that wait to be repeated.
    pub(super) fn culprits(&self) -> usize {
        let is_culprit = |group: &&Group| matches!(group.ids[..], [id] if self.is_culprit(id));
        self.groups.iter().filter(is_culprit).count()
    }

    /// Drops the groups, and remembers the culprits.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Whether the chunk took too long alone and has not succeeded since.
    pub(super) fn is_culprit(&self, id: Uuid) -> bool {
        self.culprits.contains_key(&id)
    }

    /// When the next group is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.due).min()
    }

    /// Takes the group that has been due longest.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Uuid> {
        let oldest = self.groups.iter().enumerate().min_by_key(|(_, group)| group.due);
        let next = oldest.filter(|(_, group)| group.due <= now).map(|(place, _)| place);
        next.and_then(|place| self.groups.remove(place)).map(|group| group.ids).unwrap_or_default()
    }

    /// Splits a group whose call took too long; both parts are due now. A single chunk is due again after a pause.
    pub(super) fn split(&mut self, mut group: Vec<Weighed>, now: Instant) {
        if let [alone] = group[..] {
            return self.fail_alone(alone.id, now);
        }
        group.sort_by_key(|chunk| std::cmp::Reverse(chunk.weight));
        let light = group.split_off(heavier_half(&group));
        for part in [group, light].into_iter().filter(|part| !part.is_empty()) {
            self.groups.push_back(Group { ids: part.iter().map(|chunk| chunk.id).collect(), due: now });
        }
    }

    fn fail_alone(&mut self, id: Uuid, now: Instant) {
        if self.culprits.len() < REMEMBERED || self.culprits.contains_key(&id) {
            *self.culprits.entry(id).or_default() += 1;
        }
        self.wait(id, now);
    }

    /// Sends a culprit apart once its pause is over.
    pub(super) fn wait(&mut self, id: Uuid, now: Instant) {
        let failed = self.culprits.get(&id).copied().unwrap_or(1).saturating_sub(1).min(16);
        let pause = (PAUSE.0 * 2_u32.pow(failed)).min(PAUSE.1);
        self.put_back(vec![id], now + pause);
    }

    /// The store does not answer at all: the same group is due again at `due`.
    pub(super) fn put_back(&mut self, ids: Vec<Uuid>, due: Instant) {
        self.groups.push_back(Group { ids, due });
    }

    /// The store answered a write of the chunk.
    pub(super) fn answered(&mut self, id: Uuid) {
        self.culprits.remove(&id);
    }
}

/// How many of the chunks, heaviest first, have half of the weight; at least one, and not all of several.
fn heavier_half(group: &[Weighed]) -> usize {
    let half = group.iter().map(|chunk| chunk.weight).sum::<usize>() / 2;
    let mut sum = 0;
    let heavier = group.iter().take_while(|chunk| {
        let more = sum < half;
        sum += chunk.weight;
        more
    });
    heavier.count().clamp(1, (group.len() - 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(weights: &[usize]) -> Vec<Weighed> {
        let chunk =
            |(number, weight): (usize, &usize)| Weighed { id: Uuid::from_u128(number as u128), weight: *weight };
        weights.iter().enumerate().map(chunk).collect()
    }

    /// The number of calls until the culprit is alone, if every group that contains it fails.
    async fn calls(weights: &[usize], culprit: u128) -> usize {
        let (mut isolation, all) = (Isolation::default(), weighed(weights));
        let culprit = Uuid::from_u128(culprit);
        isolation.split(all.clone(), Instant::now());
        let mut calls = 0;
        while !isolation.is_culprit(culprit) {
            let group = isolation.take(Instant::now());
            assert!(!group.is_empty(), "the culprit is lost");
            calls += 1;
            if group.contains(&culprit) {
                let of = |id: &Uuid| all.iter().copied().find(|chunk| chunk.id == *id);
                isolation.split(group.iter().filter_map(of).collect(), Instant::now());
            }
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_heavy_chunk_is_alone_at_once_and_any_other_soon() {
        let mut weights = vec![1_000; 256];
        weights[77] = 1_000_000;
        assert_eq!(calls(&weights, 77).await, 1);
        assert!(calls(&[1_000; 256], 77).await <= 16);
        assert!(calls(&[0; 3], 2).await <= 4, "chunks without a weight are split as well");
    }

    #[tokio::test(start_paused = true)]
    async fn a_culprit_is_repeated_alone_with_growing_pauses_until_it_succeeds() {
        let (mut isolation, chunk) = (Isolation::default(), weighed(&[1]));
        for seconds in [1, 2, 4] {
            isolation.split(chunk.clone(), Instant::now());
            assert_eq!(isolation.due(), Some(Instant::now() + Duration::from_secs(seconds)));
            assert!(isolation.take(Instant::now()).is_empty(), "not due yet");
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(isolation.take(Instant::now()), [chunk[0].id]);
        }
        isolation.answered(chunk[0].id);
        isolation.split(chunk, Instant::now());
        assert_eq!(isolation.due(), Some(Instant::now() + PAUSE.0));
    }
}
