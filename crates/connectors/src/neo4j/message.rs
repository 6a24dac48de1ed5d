//! How many rows go into one message.
//!
//! The client sends what fits into its buffer of 8 KiB at once, and more than that in several writes. It leaves Nagle's
//! algorithm on, so each of these waits until the other side has acknowledged the one before, and that one waits in turn
//! whether an answer comes along: 40 ms for every message that is too long, where its rows take five.

use neo4rs::BoltType;

/// The buffer, but for what goes around statement and rows.
const ROOM: usize = 8192 - 192;

/// Cuts the rows of a statement so that each part fits into a message with it; a row that is too long goes alone.
pub(super) fn cut(statement: &str, rows: Vec<BoltType>) -> Vec<Vec<BoltType>> {
    let room = ROOM.saturating_sub(statement.len());
    let mut parts: Vec<Vec<BoltType>> = Vec::new();
    let mut left = 0;
    for row in rows {
        let size = size(&row);
        match parts.last_mut() {
            Some(part) if size <= left => {
                part.push(row);
                left -= size;
            }
            _ => {
                parts.push(vec![row]);
                left = room.saturating_sub(size);
            }
        }
    }
    parts
}

/// The most bytes that a value takes on the wire.
fn size(value: &BoltType) -> usize {
    match value {
        BoltType::String(text) => 5 + text.value.len(),
        BoltType::List(list) => 5 + list.value.iter().map(size).sum::<usize>(),
        BoltType::Map(map) => 5 + map.value.iter().map(|(key, value)| 5 + key.value.len() + size(value)).sum::<usize>(),
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_goes_once_and_in_order() {
        let rows: Vec<BoltType> = (0..3000_i64).map(BoltType::from).collect();
        let parts = cut("RETURN 1", rows.clone());
        assert!(parts.len() > 1);
        assert!(parts.iter().all(|part| part.iter().map(size).sum::<usize>() < ROOM));
        assert_eq!(parts.concat(), rows);
    }

    #[test]
    fn a_row_that_is_too_long_goes_alone() {
        let rows = ["a".to_owned(), "b".repeat(20_000), "c".to_owned()].map(BoltType::from).to_vec();
        assert_eq!(cut("", rows).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(cut("", Vec::new()).is_empty());
    }
}
