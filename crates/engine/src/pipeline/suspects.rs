//! Suspects: entries that may be what kills their process. They are carried alone, to find out which one it is.
//!
//! A delivery counts if a process stopped responding while it had the entry, so everything that was delivered together
//! with a deadly entry is counted with it. After three such deliveries an entry is carried alone: everything before it
//! has ended, and nothing after it starts until it has ended too, or has run too long to be deadly. So only the first
//! suspect of a term can have killed the process of the term before, and only that one is dead-lettered when it has
//! been delivered too often.
//!
//! Deaths that have nothing to do with the entry (a machine that is restarted again and again while the entry waits for a
//! store, a pause of the process that looks like a death) must not add up to a dead letter. Two rules ensure that:
//! - an entry that was under way for `deadly_within` without killing the process is acquitted: its count begins again;
//! - from half the deliveries on, the first suspect of a term waits for a random time before it is carried. If the
//!   process dies in that time, the entry cannot have killed it, and its count falls back. So only deaths that follow the
//!   beginning of the entry closely, whenever that is, add up. A death at any other time counts with a probability of
//!   at most one in [`LONGEST_DELAY`], and eight in a row are needed (with 16 deliveries).
//!
//! What a crash does: before the delay the count is lowered, after it the count is restored, and only then the entry is
//! carried. A crash between two of these steps finds the lower count or one that is right.

use tokio::task::JoinSet;

use crate::pipeline::isolation;
use crate::ports::Delivery;

/// The number of counted deliveries after which an entry is carried alone.
pub(super) const SUSPECT: u32 = 3;

/// The longest random time for which a suspect waits, in multiples of `deadly_within`.
pub(super) const LONGEST_DELAY: u32 = 4;

/// Whether the entry is carried alone; `max` is the number of deliveries after which it is dead-lettered.
pub(crate) fn is_suspect(delivery: &Delivery, max: u32) -> bool {
    delivery.attempt > SUSPECT.min(max.saturating_sub(1)).max(1)
}

/// Splits the deliveries, in their order, into groups that are carried together.
pub(crate) fn runs(deliveries: Vec<Delivery>, max: u32) -> Vec<Vec<Delivery>> {
    isolation::alone(deliveries, |delivery| is_suspect(delivery, max))
}

/// Decides which suspect is dead-lettered: the first of a term, if it was delivered too often.
#[derive(Debug, Default)]
pub(crate) struct Accusation {
    /// This term already had a suspect.
    made: bool,
    /// The suspects that are under way, until each is acquitted.
    trials: JoinSet<()>,
}

impl Accusation {
    /// Whether the delivery must wait before it is carried: it is the first suspect of the term, and further deaths
    /// would dead-letter it.
    pub(crate) fn doubts(&self, delivery: &Delivery, max: u32) -> bool {
        !self.made && (max / 2).max(SUSPECT) < delivery.attempt && delivery.attempt <= max
    }

    /// Runs the trial of a suspect until it ends, or the term does.
    pub(crate) fn hold(&mut self, trial: impl Future<Output = ()> + Send + 'static) {
        while self.trials.try_join_next().is_some() {}
        self.trials.spawn(trial);
    }

    /// Whether the delivery is to be dead-lettered.
    pub(crate) fn of(&mut self, delivery: &Delivery, max: u32) -> bool {
        let first = !self.made;
        self.made |= is_suspect(delivery, max);
        first && delivery.attempt > max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::EntryId;

    fn delivery(sequence: u64, attempt: u32) -> Delivery {
        let (id, at) = (EntryId { millis: 0, sequence }, chunk_sync_model::Time::from_micros(0));
        Delivery { id, attempt, again: attempt > 1, added_at: at, read_at: at, fields: Vec::new() }
    }

    #[test]
    fn suspects_are_carried_alone_and_the_order_stays() {
        let attempts = [1, 2, 4, 1, 5, 4, 3, 1];
        let deliveries = (0..).zip(attempts).map(|(sequence, attempt)| delivery(sequence, attempt)).collect();
        let runs = runs(deliveries, 16);
        assert!(runs.concat().is_sorted_by_key(|delivery| delivery.id));
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn of_a_term_only_the_first_suspect_is_given_up() {
        let mut accusation = Accusation::default();
        assert!(!accusation.of(&delivery(0, 1), 16));
        assert!(accusation.of(&delivery(1, 17), 16));
        assert!(!accusation.of(&delivery(2, 17), 16), "it was delivered together with the other each time");
        let mut accusation = Accusation::default();
        assert!(!accusation.of(&delivery(0, 9), 16), "this one may have killed the last process");
        assert!(!accusation.of(&delivery(1, 17), 16));
    }
}
