//! What a pooler gets to see, and what the client sees of the answers.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;

use super::exchanges::Exchanges;

fn exchanges() -> Exchanges {
    Exchanges::new(vec![("row_security", "off".to_owned())])
}

/// Sends whole messages; returns kinds and bodies of what the pooler gets.
fn sent(exchanges: &mut Exchanges, write: impl FnOnce(&mut BytesMut)) -> Vec<(char, String)> {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    write(&mut input);
    while let Some((tag, body)) = next(&mut input) {
        exchanges.send(tag, &body, &mut out).unwrap();
    }
    let mut messages = Vec::new();
    while let Some((tag, body)) = next(&mut out) {
        messages.push((char::from(tag), String::from_utf8_lossy(&body).replace('\0', "|")));
    }
    messages
}

fn next(bytes: &mut BytesMut) -> Option<(u8, Bytes)> {
    let length = u32::from_be_bytes(*bytes.get(1..5)?.first_chunk()?) as usize;
    let whole = bytes.split_to(1 + length).freeze();
    Some((whole[0], whole.slice(5..)))
}

fn kinds(messages: &[(char, String)]) -> String {
    messages.iter().map(|(kind, _)| *kind).collect()
}

/// The kinds of answers that the client sees.
fn seen(exchanges: &mut Exchanges, answers: &str, state: u8) -> String {
    answers.chars().filter(|kind| exchanges.receive(u8::try_from(*kind).unwrap(), state)).collect()
}

fn prepare(out: &mut BytesMut) {
    frontend::parse("s1", "SELECT $1", [], out).unwrap();
    frontend::describe(b'S', "s1", out).unwrap();
    frontend::sync(out);
}

fn bind(out: &mut BytesMut) {
    let encode = |_: &str, _: &mut BytesMut| Ok(postgres_protocol::IsNull::Yes);
    let Ok(()) = frontend::bind("", "s1", [], ["x"], encode, [1], out) else { unreachable!("a valid message") };
    frontend::execute("", 0, out).unwrap();
    frontend::sync(out);
}

fn query(sql: &'static str) -> impl FnOnce(&mut BytesMut) {
    move |out| frontend::query(sql, out).unwrap()
}

#[test]
fn each_exchange_brings_settings_and_statement_and_hides_their_answers() {
    let mut exchanges = exchanges();
    let messages = sent(&mut exchanges, prepare);
    assert_eq!(kinds(&messages), "PDS");
    assert!(messages[0].1.starts_with("|SELECT $1|") && messages[1].1 == "S|", "{messages:?}");
    assert_eq!(seen(&mut exchanges, "1tTZ", b'I'), "1tTZ");

    let messages = sent(&mut exchanges, bind);
    assert_eq!(kinds(&messages), "PBEPBES");
    assert!(messages[0].1.contains("set_config('row_security', 'off', true)"), "{messages:?}");
    assert!(messages[3].1.starts_with("|SELECT $1|") && messages[4].1.starts_with("||"), "{messages:?}");
    assert_eq!(seen(&mut exchanges, "12DC12DDCZ", b'I'), "2DDCZ");
}

#[test]
fn an_error_ends_what_is_hidden() {
    let mut exchanges = exchanges();
    sent(&mut exchanges, prepare);
    seen(&mut exchanges, "1tTZ", b'I');
    sent(&mut exchanges, bind);
    sent(&mut exchanges, bind);
    assert_eq!(seen(&mut exchanges, "12DC1EZ", b'I'), "EZ");
    assert_eq!(seen(&mut exchanges, "12DC12CZ", b'I'), "2CZ");
}

#[test]
fn in_a_transaction_the_settings_come_once() {
    let mut exchanges = exchanges();
    sent(&mut exchanges, prepare);
    let begun = sent(&mut exchanges, query("START TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
    assert_eq!(begun[0].1, "SET LOCAL row_security = 'off'; START TRANSACTION ISOLATION LEVEL REPEATABLE READ|");
    assert_eq!(kinds(&sent(&mut exchanges, bind)), "PBES");
    assert_eq!(sent(&mut exchanges, query("SELECT 1"))[0].1, "SELECT 1|");
    assert_eq!(sent(&mut exchanges, query("ROLLBACK TO s"))[0].1, "ROLLBACK TO s|");
    assert_eq!(sent(&mut exchanges, query("COMMIT"))[0].1, "COMMIT|");
    assert_eq!(sent(&mut exchanges, query("SELECT 1"))[0].1, "SET LOCAL row_security = 'off'; SELECT 1|");
    let answers = "1tTZ CCZ 12CZ TDCZ CZ CZ CTDCZ".replace(' ', "");
    assert_eq!(seen(&mut exchanges, &answers, b'I'), "1tTZCZ2CZTDCZCZCZTDCZ");
}

#[test]
fn a_transaction_that_the_server_did_not_begin_is_none() {
    let mut exchanges = exchanges();
    sent(&mut exchanges, query("BEGIN"));
    assert_eq!(seen(&mut exchanges, "EZ", b'I'), "EZ");
    assert!(sent(&mut exchanges, query("SELECT 1"))[0].1.starts_with("SET LOCAL"));
}

#[test]
fn a_closed_statement_is_forgotten_and_an_unknown_one_is_refused() {
    let mut exchanges = exchanges();
    sent(&mut exchanges, prepare);
    let close = |out: &mut BytesMut| frontend::close(b'S', "s1", out).unwrap();
    assert_eq!(sent(&mut exchanges, close)[0], ('C', "S|".to_owned()));
    let body = Bytes::from_static(b"\0s1\0\0\0\0\0\0\0");
    assert!(exchanges.send(b'B', &body, &mut BytesMut::new()).is_err());
    assert!(exchanges.send(b'P', &Bytes::from_static(b"no end"), &mut BytesMut::new()).is_err());
}
