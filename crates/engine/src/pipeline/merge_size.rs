//! How many operations one merge transaction takes: as many as keep the rows of the application locked only briefly.
//! The size falls by half when a transaction takes long and grows slowly while transactions are short, so that it
//! follows the load of the server.

use std::time::Duration;

/// The time that a transaction may take before the next one gets half of its operations. It is half of the 100 ms for
/// which the service may lock a row, because the next transaction of the same size may take longer.
const LONG: Duration = Duration::from_millis(50);
/// Below this time the next transaction may be larger.
const SHORT: Duration = Duration::from_millis(25);
/// The size of the first transaction: its statements are not prepared yet.
const FIRST: usize = 32;

/// The largest number of operations of the next merge transaction.
#[derive(Debug)]
pub(crate) struct MergeSize(usize);

impl Default for MergeSize {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl MergeSize {
    /// Cuts a part after as many operations as the next transaction takes. The second one is empty if all of them fit.
    pub(super) fn cut(&self, mut part: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
        let rest = part.split_off(part.len().min(self.0));
        (part, rest)
    }

    /// Notes that so many operations were too many for one transaction.
    pub(super) fn halve(&mut self, operations: usize) {
        self.0 = self.0.min(operations).div_ceil(2);
    }

    /// Notes how long a transaction with so many operations held its locks.
    pub(super) fn note(&mut self, operations: usize, held: Duration) {
        if held > LONG {
            self.halve(operations);
        } else if held < SHORT && operations >= self.0 {
            self.0 += self.0.div_ceil(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_transactions_halve_the_size_and_short_full_ones_raise_it() {
        let mut size = MergeSize::default();
        let (first, rest) = size.cut((0..100).collect());
        assert_eq!((first.len(), rest.len(), first[0], rest[0]), (FIRST, 100 - FIRST, 0, FIRST));
        size.note(FIRST, LONG * 2);
        assert_eq!(size.0, FIRST / 2);
        size.note(FIRST / 2, SHORT / 2);
        assert_eq!(size.0, FIRST / 2 + FIRST / 8);
        size.note(1, SHORT / 2);
        assert_eq!(size.0, FIRST / 2 + FIRST / 8, "a small transaction shows nothing about larger ones");
        for _ in 0..20 {
            size.note(3, LONG * 2);
        }
        assert_eq!(size.cut(vec![7, 8]), (vec![7], vec![8]), "at least one operation is merged");
    }
}
