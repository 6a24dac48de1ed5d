#![allow(clippy::unwrap_used)]
use super::*;

fn pending(operation_id: &str, operation: &str) -> Vec<u8> {
    let mut encoder = Encoder::new("2026-11-23T04:15:00.25Z".parse().unwrap(), 0);
    encoder.pending(&Pending::new(operation_id, operation)).unwrap();
    encoder.into_bytes()
}

fn completion(outcome: Outcome<'_>) -> String {
    let mut encoder = Encoder::new("2026-11-23T04:15:01Z".parse().unwrap(), 0);
    encoder.completion(&Completion { operation_id: "e-1", outcome }).unwrap();
    String::from_utf8(encoder.into_bytes()).unwrap()
}

/// Computes the checksum bit by bit, so that the tests of the format do not depend on the library.
fn castagnoli(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))))
}

#[test]
fn lines_are_written_in_the_documented_format() {
    assert_eq!(castagnoli(b"123456789"), 0xe306_9283);
    let expected = |body: &str| format!("{body},\"crc32c\":\"{:08x}\"}}\n", castagnoli(body.as_bytes()));
    let head = r#"{"timestamp":"2026-11-23T04:15:00.250000Z","operation_id":"e-1""#;
    assert_eq!(
        String::from_utf8(pending("e-1", r#"{"a":1}"#)).unwrap(),
        expected(&format!(r#"{head},"operation":{{"a":1}},"status":"pending""#))
    );
    let head = r#"{"timestamp":"2026-11-23T04:15:01.000000Z","operation_id":"e-1""#;
    assert_eq!(completion(Outcome::Complete), expected(&format!(r#"{head},"status":"complete""#)));
    assert_eq!(
        completion(Outcome::Failed { error: "no \"x\"\n" }),
        expected(&format!(r#"{head},"status":"failed","error":"no \"x\"\n""#))
    );
}

#[test]
fn the_bytes_of_a_line_are_frozen() {
    assert_eq!(
        String::from_utf8(pending("e-1", r#"{"a":1}"#)).unwrap(),
        "{\"timestamp\":\"2026-11-23T04:15:00.250000Z\",\"operation_id\":\"e-1\",\"operation\":{\"a\":1},\
         \"status\":\"pending\",\"crc32c\":\"3643d31b\"}\n"
    );
}

#[test]
fn a_written_line_reads_back() {
    for operation_id in ["e-1", "", "a\"b\\c\n\u{2028}", "é", "\",\"operation\":{},\"status\":\"pending\""] {
        for operation in ["{}", r#"{"status":"pending","x":"\",\"status\":\"complete\""}"#, "{\"u\":\"\u{2028}\\n\"}"] {
            let bytes = pending(operation_id, operation);
            let line = parse(bytes.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!((&*line.operation_id, line.operation), (operation_id, Some(operation)));
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        }
    }
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    let bytes = pending("e-1", "\n{\r\n \"a\":\n\"\u{2028}\\n\"}\n");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    let line = parse(bytes.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!(line.operation, Some("{   \"a\": \"\u{2028}\\n\"}"));
}

#[test]
fn an_operation_that_is_not_an_object_is_rejected() {
    let mut encoder = Encoder::new(Timestamp::UNIX_EPOCH, 0);
    for operation in ["", "[]", "1", "{} {", "\u{2028}{}"] {
        let rejected = encoder.pending(&Pending::new("e-1", operation));
        assert!(
            matches!(rejected, Err(WalError::NotAnObject { operation_id }) if operation_id == "e-1"),
            "{operation}"
        );
    }
}

#[test]
fn any_changed_byte_is_detected() {
    let line = pending("e-1", r#"{"a":1}"#);
    let line = line.strip_suffix(b"\n").unwrap();
    for at in 0..line.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = line.to_vec();
            changed[at] ^= flip;
            assert!(parse(&changed).is_err(), "byte {at} changed by {flip}");
        }
        assert!(parse(&line[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_sealed_line_of_another_form_is_foreign() {
    for body in
        ["{", r#"{"timestamp":"now","operation_id":"e","status":"complete""#, r#"{"a":1"#, "{\"timestamp\":\"\\"]
    {
        let line = format!("{body}{}", seal(body.as_bytes()));
        assert_eq!(parse(line.as_bytes()), Err(Flaw::Foreign), "{body}");
    }
    let mut line = b"{\xff".to_vec();
    line.extend_from_slice(seal(b"{\xff").as_bytes());
    assert_eq!(parse(&line), Err(Flaw::Foreign));
}

#[test]
fn where_an_operation_was_read_comes_back_as_it_was() {
    for (entry, epoch) in [("17-0", "a1"), ("", ""), ("\"", "\\\",\"operation\":{}")] {
        let origin = Origin { entry: entry.into(), epoch: epoch.into() };
        let mut encoder = Encoder::new("2026-11-23T04:15:00Z".parse().unwrap(), 0);
        encoder.pending(&Pending { origin: Some(origin.clone()), ..Pending::new("e-1", r#"{"a":1}"#) }).unwrap();
        let bytes = encoder.into_bytes();
        let line = parse(bytes.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!((line.origin, line.operation), (Some(origin), Some(r#"{"a":1}"#)));
    }
}
