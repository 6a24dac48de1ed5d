//! Isolation: from a batch that failed to the operations that cause it, and from deliveries to those that may kill the
//! process. The order of the operations of a chunk stays.

use crate::pipeline::envelope::Operation;

/// Splits the items, in their order, into groups that are carried together: each suspect is alone.
pub(super) fn alone<T>(items: Vec<T>, is_suspect: impl Fn(&T) -> bool) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some(run) if !is_suspect(&item) && !run.iter().any(&is_suspect) => run.push(item),
            _ => runs.push(vec![item]),
        }
    }
    runs
}

/// Splits a refused batch in two without separating the operations of one chunk; `None` if they all belong to one
/// chunk.
pub(super) fn halves(part: &[usize], operations: &[Operation]) -> Option<(Vec<usize>, Vec<usize>)> {
    let mut ids: Vec<_> = part.iter().map(|i| operations[*i].event.chunk_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let middle = *ids.get(ids.len() / 2).filter(|_| ids.len() > 1)?;
    Some(part.iter().partition(|i| operations[**i].event.chunk_id() < middle))
}

/// Splits refused operations of one chunk in two, in their order; `None` for a single one.
pub(super) fn halves_in_order(part: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let (first, second) = part.split_at(part.len() / 2);
    (!first.is_empty()).then(|| (first.to_vec(), second.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_go_alone_and_the_order_stays() {
        let items = vec![("a", 0), ("b", 1), ("c", 2), ("d", 0), ("e", 3), ("f", 2), ("g", 1), ("h", 0)];
        let groups = alone(items, |(_, replays)| *replays >= 2);
        let names: String = groups.iter().flatten().map(|(name, _)| *name).collect();
        assert_eq!(names, "abcdefgh");
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1, 1, 2]);
    }
}
