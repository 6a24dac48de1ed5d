#![allow(clippy::unwrap_used)]

use super::entry::number;
use super::*;

#[test]
fn an_id_has_the_order_of_its_number_and_is_read_as_it_is_written() {
    let ids = [1, 2, 9, 10, i64::MAX].map(entry_id);
    assert!(ids.is_sorted_by(|a, b| a < b));
    for id in ids {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(number(id).map(entry_id), Some(id));
    }
    assert_eq!(number("1700000000000-3".parse().unwrap()), None, "an id of another bus names no entry here");
}

#[test]
fn fields_come_back_as_they_were() {
    let original: Fields = vec![(b"chunk".to_vec(), vec![0xff, 0x00]), (Vec::new(), Vec::new())];
    assert_eq!(fields(in_turn(original.clone())), original);
}
