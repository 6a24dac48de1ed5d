//! Messages of the server: a byte for the kind, four for the length, the body. Pure, and never panics.

use bytes::{Buf, Bytes, BytesMut};

use super::Row;
use crate::postgres::failure::ServerError;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Frame {
    pub(in crate::postgres) tag: u8,
    pub(in crate::postgres) body: Bytes,
}

impl Frame {
    /// Takes a whole message from the buffer, if it holds one.
    pub(super) fn take(input: &mut BytesMut, largest: usize) -> Result<Option<Self>, String> {
        let Some(head) = input.first_chunk::<5>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=largest).contains(&length) {
            return Err(format!("a message of the server has {length} bytes; check that this is a PostgreSQL server"));
        }
        if input.len() <= length {
            input.reserve(length + 1 - input.len());
            return Ok(None);
        }
        let mut whole = input.split_to(length + 1).freeze();
        whole.advance(5);
        Ok(Some(Self { tag, body: whole }))
    }

    /// The values of a data row.
    pub(super) fn row(&self) -> Result<Row, String> {
        let short = || "a row of the server is truncated".to_owned();
        let (count, mut rest) = self.body.split_first_chunk::<2>().ok_or_else(short)?;
        let mut values = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            rest = after;
            // A negative length stands for NULL.
            let value = match usize::try_from(i32::from_be_bytes(*length)) {
                Err(_) => None,
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length).ok_or_else(short)?;
                    rest = after;
                    Some(String::from_utf8_lossy(value).into_owned())
                }
            };
            values.push(value);
        }
        Ok(values)
    }

    /// The fields of an error or a notice: a byte for the field, its text, a zero byte.
    pub(in crate::postgres) fn error(&self) -> ServerError {
        let mut error = ServerError::default();
        for field in self.body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_taken_once_it_is_whole() {
        let whole = b"Z\0\0\0\x05IE\0\0\0\x04";
        for length in 0..6 {
            assert_eq!(Frame::take(&mut BytesMut::from(&whole[..length]), 100), Ok(None), "{length}");
        }
        let mut input = BytesMut::from(&whole[..]);
        let frame = Frame::take(&mut input, 100).unwrap().unwrap();
        assert_eq!((frame.tag, &frame.body[..]), (b'Z', &b"I"[..]));
        assert_eq!(Frame::take(&mut input, 100).unwrap().unwrap().body.len(), 0);
    }

    #[test]
    fn a_length_that_no_server_sends_is_refused() {
        for length in [0_u32, 3, 101, u32::MAX] {
            let mut input = BytesMut::from(&b"R"[..]);
            input.extend_from_slice(&length.to_be_bytes());
            assert!(Frame::take(&mut input, 100).is_err(), "{length}");
        }
    }

    #[test]
    fn rows_and_errors_are_read_or_refused_without_a_panic() {
        let frame = |body: &'static [u8]| Frame { tag: b'D', body: Bytes::from_static(body) };
        let row = frame(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        assert_eq!(row.row().unwrap(), [Some("a".to_owned()), None]);
        for length in 0..row.body.len() {
            assert!(Frame { tag: b'D', body: row.body.slice(..length) }.row().is_err(), "{length}");
        }
        let error = frame(b"SFATAL\0C28P01\0Mno\0Hask\0\0").error();
        assert_eq!(error.to_string(), "no (SQLSTATE 28P01); ask");
    }
}
