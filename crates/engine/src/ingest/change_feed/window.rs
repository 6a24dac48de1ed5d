//! What was published and is not confirmed yet. Pure.

use std::collections::VecDeque;

use crate::ports::{EntryId, Position};

/// The maximal number of batches that are published and not confirmed.
const BATCHES: usize = 4096;

/// The maximal number of rows that are published and not finished. Below the bound of the bus, so that one large
/// transaction leaves room for the events of other publishers.
const ROWS: usize = 50_000;

#[derive(Default)]
pub(super) struct Window {
    batches: VecDeque<Batch>,
    last: Option<EntryId>,
    rows: usize,
    /// The number of batches since the start.
    pushed: u64,
}

/// The batches that were published when the bus was asked for its oldest unfinished entry. The answer shows nothing about
/// later ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

struct Batch {
    /// The last entry that was published up to here.
    entry: EntryId,
    /// The end of the last transaction in the batch; `None` if the batch is a part of one that goes on.
    end: Option<Position>,
    rows: usize,
}

impl Window {
    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < BATCHES && self.rows < ROWS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch that was published; `last` is its last entry, `None` if it has none.
    pub(super) fn push(&mut self, last: Option<EntryId>, end: Option<Position>, rows: usize) {
        self.last = last.or(self.last);
        // If nothing was published yet, the batch counts as finished: its id is below every other.
        self.batches.push_back(Batch { entry: self.last.unwrap_or_default(), end, rows });
        self.rows += rows;
        self.pushed += 1;
    }

    /// The batches up to now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.pushed)
    }

    /// Up to which position everything is finished, if `oldest` was the oldest unfinished entry of the bus at `mark`.
    pub(super) fn finished(&self, mark: Mark, oldest: Option<EntryId>) -> Option<Position> {
        let marked = self.batches.len().saturating_sub(self.count_after(mark));
        let finished = self.batches.iter().take(marked).take_while(|batch| is_finished(batch, oldest));
        finished.filter_map(|batch| batch.end).last()
    }

    /// Removes the finished batches, as [`finished`](Self::finished).
    pub(super) fn shrink(&mut self, mark: Mark, oldest: Option<EntryId>) {
        let later = self.count_after(mark);
        while self.batches.len() > later
            && let Some(batch) = self.batches.pop_front_if(|batch| is_finished(batch, oldest))
        {
            self.rows -= batch.rows;
        }
        if self.batches.is_empty() {
            self.last = None;
        }
    }

    /// The number of batches that were published after the mark.
    fn count_after(&self, Mark(mark): Mark) -> usize {
        usize::try_from(self.pushed - mark).unwrap_or(usize::MAX)
    }
}

fn is_finished(batch: &Batch, oldest: Option<EntryId>) -> bool {
    oldest.is_none_or(|oldest| batch.entry < oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(millis: u64) -> EntryId {
        EntryId { millis, sequence: 0 }
    }

    #[test]
    fn a_transaction_in_parts_is_finished_with_its_last_part() {
        let mut window = Window::default();
        window.push(Some(entry(1)), Some(Position(10)), 1);
        window.push(Some(entry(2)), None, 1);
        window.push(Some(entry(3)), Some(Position(30)), 1);
        assert_eq!(window.finished(window.mark(), Some(entry(3))), Some(Position(10)));
        window.shrink(window.mark(), Some(entry(3)));
        assert_eq!(window.finished(window.mark(), Some(entry(3))), None, "the transaction goes on");
        assert_eq!(window.finished(window.mark(), Some(entry(4))), Some(Position(30)));
        window.shrink(window.mark(), None);
        assert!(window.is_empty());
    }

    #[test]
    fn a_batch_without_rows_is_finished_with_those_before_it() {
        let mut window = Window::default();
        window.push(None, Some(Position(1)), 0);
        assert_eq!(window.finished(window.mark(), Some(entry(1))), Some(Position(1)));
        window.push(Some(entry(5)), Some(Position(2)), 1);
        window.push(None, Some(Position(3)), 0);
        assert_eq!(window.finished(window.mark(), Some(entry(5))), Some(Position(1)));
        assert_eq!(window.finished(window.mark(), None), Some(Position(3)));
    }

    #[test]
    fn a_large_transaction_leaves_room_on_the_bus() {
        let mut window = Window::default();
        window.push(Some(entry(1)), None, ROWS);
        assert!(!window.has_room());
        window.shrink(window.mark(), Some(entry(1)));
        assert!(!window.has_room(), "nothing is finished");
        window.shrink(window.mark(), Some(entry(2)));
        assert!(window.has_room());
    }

    #[test]
    fn a_batch_that_was_published_after_the_question_is_not_finished() {
        let mut window = Window::default();
        window.push(Some(entry(1)), Some(Position(10)), 1);
        let mark = window.mark();
        window.push(Some(entry(2)), Some(Position(20)), 1);
        assert_eq!(window.finished(mark, None), Some(Position(10)), "the bus was empty before the second batch");
        window.shrink(mark, None);
        assert!(!window.is_empty());
        assert_eq!(window.finished(mark, None), None);
        assert_eq!(window.finished(window.mark(), None), Some(Position(20)));
    }
}
