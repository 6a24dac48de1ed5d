//! The format of a line: writes lines, and reads them without parsing the operations.
//!
//! A line is one JSON object, UTF-8, without spaces between its keys, ended by one `\n`. The order of keys is fixed. A
//! pending line carries the operation. A completion line, later in the same file or in a later one, ends it:
//!
//! ```text
//! {"timestamp":"2026-11-23T04:15:00.000000Z","operation_id":"e-1","entry":"17-0","epoch":"a1","operation":{…},"status":"pending","crc32c":"0123abcd"}
//! {"timestamp":"2026-11-23T04:15:00.250000Z","operation_id":"e-1","status":"complete","crc32c":"0123abcd"}
//! {"timestamp":"2026-11-23T04:15:00.250000Z","operation_id":"e-1","status":"failed","error":"…","crc32c":"0123abcd"}
//! ```
//!
//! - `timestamp`: when the line was written, RFC 3339, UTC, microseconds.
//! - `operation_id`: unique for the operation. A second pending line of a pending operation is a repetition without
//!   meaning, unless its operation is `{}`: then a start has begun to replay it. Such a line alone means nothing. A pending
//!   line after the completion begins the operation again.
//! - `entry`, `epoch`: the entry of the bus that the operation was read from, and the epoch of that bus. Both or neither:
//!   lines of older versions, and operations of another origin, have neither.
//! - `operation`: the JSON object that the caller gave, except that line breaks between its tokens become spaces.
//!   (Inside a JSON string a line break is always escaped, so this is unambiguous.) U+2028 and similar characters are
//!   ordinary text.
//! - `crc32c`: always last; the Castagnoli checksum of the bytes from `{` up to but not including `,"crc32c"`, as eight
//!   lower-case hexadecimal digits.
//!
//! A reader verifies the checksum first, then cuts the line at its fixed keys. The writer checks only the first and
//! last character of an operation to see that it is an object; the caller must pass valid JSON.

use std::borrow::Cow;
use std::str;

use jiff::Timestamp;

use crate::WalError;

/// Maximum length of a line in bytes, without its end. Bounds the memory of a reader.
pub const MAX_LINE: usize = 64 << 20;

/// Bytes of `,"crc32c":"xxxxxxxx"}`.
const SEAL: usize = 21;

/// An operation to record before the caller begins it.
#[derive(Debug, Clone)]
pub struct Pending<'a> {
    /// Unique for the operation.
    pub operation_id: &'a str,
    /// One JSON object.
    pub operation: &'a str,
    /// Where it was read.
    pub origin: Option<Origin<'a>>,
}

impl<'a> Pending<'a> {
    /// An operation that was read from no bus.
    #[must_use]
    pub fn new(operation_id: &'a str, operation: &'a str) -> Self {
        Self { operation_id, operation, origin: None }
    }
}

/// The entry of a bus behind an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The id of the entry.
    pub entry: Cow<'a, str>,
    /// The life of the bus: another one where the bus may have lost entries since.
    pub epoch: Cow<'a, str>,
}

impl Origin<'_> {
    pub(crate) fn into_owned(self) -> Origin<'static> {
        Origin { entry: self.entry.into_owned().into(), epoch: self.epoch.into_owned().into() }
    }
}

/// The end of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// The id from [`Pending`].
    pub operation_id: &'a str,
    /// The outcome of the operation.
    pub outcome: Outcome<'a>,
}

/// The outcome of an operation. Neither outcome is replayed.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The operation succeeded.
    Complete,
    /// The operation failed for good; the caller keeps it elsewhere.
    Failed {
        /// The reason, for readers of the log.
        error: &'a str,
    },
}

/// The operation in a line that notes the replay of a pending operation.
pub(crate) const AGAIN: &str = "{}";

/// A line as read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) operation_id: Cow<'a, str>,
    pub(crate) origin: Option<Origin<'a>>,
    /// The operation of a pending line; a completion has none.
    pub(crate) operation: Option<&'a str>,
    /// Whether it is the completion of a failed operation, with the error.
    pub(crate) error: bool,
}

/// Why a line is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("no checksum at the end of the line")]
    Unsealed,
    #[error("checksum mismatch")]
    Checksum,
    #[error("valid checksum, but not a line in the format of this log")]
    Foreign,
    #[error("longer than {MAX_LINE} bytes, the maximum length of a line")]
    Overlong,
}

/// Writes lines with one timestamp into a buffer.
pub(crate) struct Encoder {
    head: String,
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(now: Timestamp, capacity: usize) -> Self {
        let head = format!(r#"{{"timestamp":"{now:.6}","operation_id":"#);
        Self { head, out: Vec::with_capacity(capacity) }
    }

    pub(crate) fn pending(&mut self, pending: &Pending<'_>) -> Result<(), WalError> {
        let operation = pending.operation.trim_ascii();
        if !(operation.starts_with('{') && operation.ends_with('}')) {
            return Err(WalError::NotAnObject { operation_id: pending.operation_id.to_owned() });
        }
        let start = self.open(pending.operation_id);
        if let Some(Origin { entry, epoch }) = &pending.origin {
            self.put(r#","entry":"#);
            self.put(&json_string(entry));
            self.put(r#","epoch":"#);
            self.put(&json_string(epoch));
        }
        self.put(r#","operation":"#);
        if operation.contains(['\n', '\r']) {
            self.put(&operation.replace(['\n', '\r'], " "));
        } else {
            self.put(operation);
        }
        self.put(r#","status":"pending""#);
        self.seal(start)
    }

    pub(crate) fn completion(&mut self, completion: &Completion<'_>) -> Result<(), WalError> {
        let start = self.open(completion.operation_id);
        match completion.outcome {
            Outcome::Complete => self.put(r#","status":"complete""#),
            Outcome::Failed { error } => {
                self.put(r#","status":"failed","error":"#);
                self.put(&json_string(error));
            }
        }
        self.seal(start)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn open(&mut self, operation_id: &str) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(self.head.as_bytes());
        self.put(&json_string(operation_id));
        start
    }

    fn seal(&mut self, start: usize) -> Result<(), WalError> {
        let seal = seal(&self.out[start..]);
        self.put(&seal);
        let length = self.out.len() - start;
        if length > MAX_LINE {
            return Err(WalError::TooLarge { needed: length as u64, max: MAX_LINE as u64 });
        }
        self.put("\n");
        Ok(())
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

/// Parses a line, given without its end.
pub(crate) fn parse(line: &[u8]) -> Result<Line<'_>, Flaw> {
    let (body, found) = line.split_at_checked(line.len().wrapping_sub(SEAL)).ok_or(Flaw::Unsealed)?;
    if found != seal(body).as_bytes() {
        return Err(if found.starts_with(br#","crc32c":""#) { Flaw::Checksum } else { Flaw::Unsealed });
    }
    str::from_utf8(body).ok().and_then(cut).ok_or(Flaw::Foreign)
}

/// Cuts the part before the checksum at its fixed keys.
fn cut(body: &str) -> Option<Line<'_>> {
    let (timestamp, rest) = body.strip_prefix(r#"{"timestamp":""#)?.split_once('"')?;
    let (operation_id, rest) = cut_string(rest.strip_prefix(r#","operation_id":"#)?)?;
    let (origin, rest) = cut_origin(rest)?;
    let operation = match rest.strip_prefix(r#","operation":"#) {
        Some(rest) => Some(rest.strip_suffix(r#","status":"pending""#)?),
        None if rest == r#","status":"complete""# => None,
        None if rest.starts_with(r#","status":"failed","error":""#) => None,
        None => return None,
    };
    let error = operation.is_none() && rest.starts_with(r#","status":"failed""#);
    Some(Line { timestamp: timestamp.parse().ok()?, operation_id, origin, operation, error })
}

/// Cuts the origin off the front of `text`, where there is one.
fn cut_origin(text: &str) -> Option<(Option<Origin<'_>>, &str)> {
    let Some(rest) = text.strip_prefix(r#","entry":"#) else {
        return Some((None, text));
    };
    let (entry, rest) = cut_string(rest)?;
    let (epoch, rest) = cut_string(rest.strip_prefix(r#","epoch":"#)?)?;
    Some((Some(Origin { entry, epoch }), rest))
}

/// Cuts a JSON string off the front of `text`.
fn cut_string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = text.strip_prefix('"')?;
    let end = inside.find(['"', '\\'])?;
    if inside.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&inside[..end]), &inside[end + 1..]));
    }
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let string = strings.next()?.ok()?;
    Some((Cow::Owned(string), &text[strings.byte_offset()..]))
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(crate) fn seal(body: &[u8]) -> String {
    format!(r#","crc32c":"{:08x}"}}"#, crc32c::crc32c(body))
}

#[cfg(test)]
mod tests;
