//! Folding: several changes of one row become one signal, because the merge reads the row itself. Pure.

use std::collections::BTreeMap;

use chunk_sync_model::Time;
use uuid::Uuid;

use crate::ports::{Position, Touch};

/// One change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) id: Uuid,
    pub(super) touch: Touch,
    /// When its transaction committed.
    pub(super) at: Time,
    /// The position of the commit of its transaction.
    pub(super) commit: Position,
}

/// The changes in the order of the last change of each row. A deletion and an insertion of a later transaction stay two
/// changes: the row is a new one. In one transaction they are an update.
pub(super) fn folded(rows: Vec<Touched>) -> Vec<Touched> {
    let mut kept: Vec<Option<Touched>> = Vec::with_capacity(rows.len());
    let mut last: BTreeMap<Uuid, usize> = BTreeMap::new();
    for mut row in rows {
        if let Some(earlier) = last.get(&row.id).and_then(|index| kept.get_mut(*index))
            && let Some(before) = *earlier
            && let Some(touch) = joined(before, row)
        {
            row.touch = touch;
            *earlier = None;
        }
        last.insert(row.id, kept.len());
        kept.push(Some(row));
    }
    kept.into_iter().flatten().collect()
}

/// The one change that two changes of a row amount to; `None` if both must be carried.
fn joined(before: Touched, after: Touched) -> Option<Touch> {
    match (before.touch, after.touch) {
        (Touch::Deleted, Touch::Inserted) if before.commit != after.commit => None,
        (Touch::Deleted, Touch::Inserted) => Some(Touch::Updated),
        (Touch::Inserted, Touch::Updated) => Some(Touch::Inserted),
        (_, touch) => Some(touch),
    }
}

#[cfg(test)]
mod tests {
    use super::Touch::{Deleted, Inserted, Updated};
    use super::*;

    fn of(changes: &[(u128, Touch, u64)]) -> Vec<(u128, Touch, u64)> {
        let row = |(id, touch, commit): &(u128, Touch, u64)| Touched {
            id: Uuid::from_u128(*id),
            touch: *touch,
            at: Time::from_micros(0),
            commit: Position(*commit),
        };
        let folded = folded(changes.iter().map(row).collect());
        folded.into_iter().map(|row| (row.id.as_u128(), row.touch, row.commit.0)).collect()
    }

    #[test]
    fn each_row_is_carried_once_at_its_last_change() {
        assert_eq!(of(&[(1, Inserted, 1), (2, Updated, 1), (1, Updated, 2)]), [(2, Updated, 1), (1, Inserted, 2)]);
        assert_eq!(of(&[(1, Updated, 1), (1, Deleted, 1)]), [(1, Deleted, 1)]);
    }

    #[test]
    fn a_row_that_is_inserted_again_is_a_new_row_unless_it_is_one_transaction() {
        assert_eq!(of(&[(1, Deleted, 1), (1, Inserted, 1)]), [(1, Updated, 1)]);
        assert_eq!(of(&[(1, Deleted, 1), (1, Inserted, 2)]), [(1, Deleted, 1), (1, Inserted, 2)]);
        assert_eq!(of(&[(1, Deleted, 1), (1, Inserted, 2), (1, Updated, 3)]), [(1, Deleted, 1), (1, Inserted, 3)]);
    }
}
