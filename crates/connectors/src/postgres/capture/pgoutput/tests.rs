#![allow(clippy::unwrap_used)]
use super::*;

const TABLE: u32 = 77;

fn described(columns: &[&str]) -> Tables {
    let mut message = vec![b'R'];
    message.extend(TABLE.to_be_bytes());
    message.extend(b"unified\0chunks\0d");
    message.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for name in columns {
        message.push(1);
        message.extend(name.as_bytes());
        message.push(0);
        message.extend([0; 8]);
    }
    let mut tables = Tables::of([TABLE].into());
    assert_eq!(tables.read(&message), Ok(Message::Other));
    tables
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            None => bytes.push(b'u'),
        }
    }
    bytes
}

fn message(kind: u8, parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(TABLE.to_be_bytes());
    for (kind, row) in parts {
        bytes.push(*kind);
        bytes.extend(row);
    }
    bytes
}

const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";

#[test]
fn each_kind_of_change_names_its_row() {
    let mut tables = described(&["content", "id", "dense_vector"]);
    let values = row(&[Some("text"), Some(ONE), None]);
    let one = ONE.parse().unwrap();
    let cases = [
        (message(b'I', &[(b'N', values.clone())]), Touch::Inserted),
        (message(b'U', &[(b'N', values.clone())]), Touch::Updated),
        (message(b'U', &[(b'O', values.clone()), (b'N', values.clone())]), Touch::Updated),
        (message(b'D', &[(b'K', values)]), Touch::Deleted),
    ];
    for (bytes, touch) in cases {
        assert_eq!(tables.read(&bytes), Ok(Message::Rows(vec![(one, touch)])));
    }
    assert_eq!(tables.read(b"T\0\0\0\x01\0\0\0\0M"), Ok(Message::Truncate));
}

#[test]
fn changes_of_other_tables_are_ignored() {
    let mut tables = Tables::of([TABLE + 1].into());
    for bytes in [
        message(b'I', &[(b'N', row(&[Some("not a UUID")]))]),
        message(b'D', &[(b'K', row(&[None]))]),
        b"T\0\0\0\x01\0\0\0\0M".to_vec(),
    ] {
        assert_eq!(tables.read(&bytes), Ok(Message::Other));
    }
    assert_eq!(tables.read(b"T\0\0\0\x02\0\0\0\0M\0\0\0N"), Ok(Message::Truncate), "one of them is ours");
}

#[test]
fn a_changed_key_is_a_deletion_and_an_insertion() {
    let mut tables = described(&["id"]);
    let bytes = message(b'U', &[(b'K', row(&[Some(ONE)])), (b'N', row(&[Some(TWO)]))]);
    let rows = vec![(ONE.parse().unwrap(), Touch::Deleted), (TWO.parse().unwrap(), Touch::Inserted)];
    assert_eq!(tables.read(&bytes), Ok(Message::Rows(rows)));
}

#[test]
fn a_truncated_message_is_refused() {
    let whole = message(b'U', &[(b'K', row(&[Some(ONE)])), (b'N', row(&[Some(TWO)]))]);
    for length in 0..whole.len() {
        assert!(described(&["id"]).read(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_table_without_an_id_is_refused() {
    let bytes = message(b'I', &[(b'N', row(&[Some(ONE)]))]);
    assert_eq!(described(&["key"]).read(&bytes), Err(Malformed::NoId));
    assert_eq!(Tables::of([TABLE].into()).read(&bytes), Err(Malformed::UnknownTable));
    let bytes = message(b'I', &[(b'N', row(&[Some("1")]))]);
    assert_eq!(described(&["id"]).read(&bytes), Err(Malformed::NotUuid));
}
