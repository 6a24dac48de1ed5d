//! Messages for a server that a pooler may replace after every transaction. Pure.
//!
//! The client keeps prepared statements and relies on the settings of its session. A pooler in transaction mode gives
//! every transaction to any of its servers, so neither survives. Therefore each exchange parses its statement again, as
//! the unnamed one, and begins with the settings, valid until the end of its transaction. What the server answers to the
//! added messages is hidden from the client.
//!
//! Source: PostgreSQL's manual, "Message Formats" and "Extended Query".

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::frontend;

/// Name and value of a setting.
pub(in crate::postgres) type Setting = (&'static str, String);

/// An answer of the server that is expected, by the byte of its kind.
#[derive(Clone, Copy, Debug)]
struct Expected {
    tag: u8,
    is_hidden: bool,
}

/// The exchanges under way, oldest first: what was sent up to a `Sync` or a simple query, and is answered up to a
/// `ReadyForQuery`.
#[derive(Debug)]
pub(super) struct Exchanges {
    settings: Vec<Setting>,
    /// The message that parses each prepared statement, without its name.
    statements: HashMap<Bytes, Bytes>,
    /// Whether a transaction is open after what was sent.
    in_transaction: bool,
    /// Whether the exchange being sent has its settings.
    has_settings: bool,
    /// The statement that the exchange being sent has parsed.
    parsed: Option<Bytes>,
    sent: VecDeque<VecDeque<Expected>>,
    sending: VecDeque<Expected>,
}

impl Exchanges {
    pub(super) fn new(settings: Vec<Setting>) -> Self {
        Self {
            settings,
            statements: HashMap::new(),
            in_transaction: false,
            has_settings: false,
            parsed: None,
            sent: VecDeque::new(),
            sending: VecDeque::new(),
        }
    }

    /// Appends to `out` what stands for this message of the client.
    ///
    /// # Errors
    /// The message violates the protocol.
    pub(super) fn send(&mut self, tag: u8, body: &Bytes, out: &mut BytesMut) -> std::io::Result<()> {
        match tag {
            b'Q' => {
                self.query(body, out)?;
                self.end();
            }
            b'P' => {
                let (name, rest) = split(body)?;
                self.statements.insert(name.clone(), rest);
                self.parse(name, false, out)?;
            }
            b'B' => {
                let (portal, rest) = split(body)?;
                let (name, values) = split(&rest)?;
                self.set_locally(out)?;
                self.parse_again(name, out)?;
                message(out, b'B', &[&portal, b"\0\0", &values]);
            }
            b'D' if body.first() == Some(&b'S') => {
                let (name, _) = split(&body.slice(1..))?;
                self.parse_again(name, out)?;
                message(out, b'D', &[b"S\0"]);
            }
            b'C' if body.first() == Some(&b'S') => {
                let (name, _) = split(&body.slice(1..))?;
                self.statements.remove(&name);
                self.parsed = None;
                message(out, b'C', &[b"S\0"]);
            }
            _ => message(out, tag, &[body]),
        }
        if tag == b'S' {
            self.end();
        }
        Ok(())
    }

    /// Whether the client sees this message of the server. `state` is the first byte of its body.
    pub(super) fn receive(&mut self, tag: u8, state: u8) -> bool {
        if tag == b'Z' {
            self.sent.pop_front();
            if self.sent.is_empty() {
                self.in_transaction = state != b'I';
            }
            return true;
        }
        let expected = self.sent.front_mut().unwrap_or(&mut self.sending);
        match expected.front() {
            Some(next) if next.tag == tag => expected.pop_front().is_none_or(|next| !next.is_hidden),
            _ => true,
        }
    }

    fn query(&mut self, body: &Bytes, out: &mut BytesMut) -> std::io::Result<()> {
        let (sql, _) = split(body)?;
        let word = |word: &[u8]| sql.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        let goes_on = self.in_transaction;
        if word(b"START TRANSACTION") || word(b"BEGIN") {
            self.in_transaction = true;
        } else if word(b"COMMIT") || (word(b"ROLLBACK") && !word(b"ROLLBACK TO")) {
            self.in_transaction = false;
            message(out, b'Q', &[body]);
            return Ok(());
        }
        if goes_on {
            message(out, b'Q', &[body]);
            return Ok(());
        }
        let settings: String =
            self.settings.iter().map(|(name, value)| format!("SET LOCAL {name} = '{value}'; ")).collect();
        self.expect(b'C', true, self.settings.len());
        message(out, b'Q', &[settings.as_bytes(), body]);
        Ok(())
    }

    /// Sets the settings for the transaction of this exchange, unless an earlier one began it.
    fn set_locally(&mut self, out: &mut BytesMut) -> std::io::Result<()> {
        if self.in_transaction || self.has_settings || self.settings.is_empty() {
            return Ok(());
        }
        self.has_settings = true;
        self.parsed = None;
        let calls = self.settings.iter().map(|(name, value)| format!("set_config('{name}', '{value}', true)"));
        let sql = format!("SELECT {}", calls.collect::<Vec<_>>().join(", "));
        frontend::parse("", &sql, [], out)?;
        message(out, b'B', &[b"\0\0\0\0\0\0\0\0"]);
        frontend::execute("", 0, out)?;
        for tag in *b"12DC" {
            self.expect(tag, true, 1);
        }
        Ok(())
    }

    fn parse_again(&mut self, name: Bytes, out: &mut BytesMut) -> std::io::Result<()> {
        if self.parsed.as_ref() == Some(&name) { Ok(()) } else { self.parse(name, true, out) }
    }

    fn parse(&mut self, name: Bytes, is_hidden: bool, out: &mut BytesMut) -> std::io::Result<()> {
        let statement = self.statements.get(&name).ok_or_else(malformed)?;
        message(out, b'P', &[b"\0", statement]);
        self.expect(b'1', is_hidden, 1);
        self.parsed = Some(name);
        Ok(())
    }

    fn expect(&mut self, tag: u8, is_hidden: bool, count: usize) {
        self.sending.extend(std::iter::repeat_n(Expected { tag, is_hidden }, count));
    }

    fn end(&mut self) {
        self.sent.push_back(std::mem::take(&mut self.sending));
        self.has_settings = false;
        self.parsed = None;
    }
}

/// Writes a message: kind, length, body.
fn message(out: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.put_u8(tag);
    // The client limits its messages to what this length can state.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for part in parts {
        out.put_slice(part);
    }
}

/// A text that ends in a zero byte, and what follows it.
fn split(body: &Bytes) -> std::io::Result<(Bytes, Bytes)> {
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
    Ok((body.slice(..end), body.slice(end + 1..)))
}

fn malformed() -> std::io::Error {
    std::io::Error::other("a message to the server violates the protocol")
}
