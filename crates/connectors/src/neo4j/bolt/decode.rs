//! Reads values and responses from PackStream bytes.

use std::collections::BTreeMap;

use super::value::Value;

/// How deep values may be nested: a server that sends more is broken.
const DEPTH: usize = 64;

/// A response of the server.
#[derive(Debug, PartialEq)]
pub(super) enum Response {
    Success(BTreeMap<String, Value>),
    Record(Vec<Value>),
    Ignored,
    Failure { code: String, message: String },
}

/// Parses a message; `None` if it is not a response.
pub(super) fn response(bytes: &[u8]) -> Option<Response> {
    let mut reader = Reader(bytes);
    let (fields, tag) = (reader.byte()?.checked_sub(0xb0)?, reader.byte()?);
    let field = if fields > 0 { reader.value(DEPTH)? } else { Value::Null };
    match (tag, field) {
        (0x70, Value::Map(metadata)) => Some(Response::Success(metadata)),
        (0x71, Value::List(values)) => Some(Response::Record(values)),
        (0x7e, _) => Some(Response::Ignored),
        (0x7f, Value::Map(mut metadata)) => {
            let mut text = |key: &str| match metadata.remove(key) {
                Some(Value::Text(text)) => text,
                _ => String::new(),
            };
            Some(Response::Failure { code: text("code"), message: text("message") })
        }
        _ => None,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A length of one, two or four bytes.
    fn length(&mut self, bytes: u8) -> Option<usize> {
        Some(match bytes {
            0 => usize::from(self.byte()?),
            1 => usize::from(u16::from_be_bytes(self.number()?)),
            _ => usize::try_from(u32::from_be_bytes(self.number()?)).ok()?,
        })
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let marker = self.byte()?;
        Some(match marker {
            0x00..=0x7f | 0xf0..=0xff => Value::Integer(i64::from(marker.cast_signed())),
            0x80..=0x8f => self.text(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth)?,
            0xa0..=0xaf => self.map(usize::from(marker & 0x0f), depth)?,
            0xb0..=0xbf => self.structure(usize::from(marker & 0x0f), depth)?,
            0xc0 => Value::Null,
            0xc1 => Value::Float(f64::from_be_bytes(self.number()?)),
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xc8 => Value::Integer(i64::from(i8::from_be_bytes(self.number()?))),
            0xc9 => Value::Integer(i64::from(i16::from_be_bytes(self.number()?))),
            0xca => Value::Integer(i64::from(i32::from_be_bytes(self.number()?))),
            0xcb => Value::Integer(i64::from_be_bytes(self.number()?)),
            0xcc..=0xce => {
                let length = self.length(marker - 0xcc)?;
                self.take(length)?;
                Value::Other
            }
            0xd0..=0xd2 => {
                let length = self.length(marker - 0xd0)?;
                self.text(length)?
            }
            0xd4..=0xd6 => {
                let length = self.length(marker - 0xd4)?;
                self.list(length, depth)?
            }
            0xd8..=0xda => {
                let length = self.length(marker - 0xd8)?;
                self.map(length, depth)?
            }
            _ => return None,
        })
    }

    fn text(&mut self, length: usize) -> Option<Value> {
        String::from_utf8(self.take(length)?.to_vec()).ok().map(Value::Text)
    }

    fn list(&mut self, length: usize, depth: usize) -> Option<Value> {
        (0..length).map(|_| self.value(depth)).collect::<Option<Vec<_>>>().map(Value::List)
    }

    fn map(&mut self, length: usize, depth: usize) -> Option<Value> {
        let mut fields = BTreeMap::new();
        for _ in 0..length {
            let Value::Text(key) = self.value(depth)? else { return None };
            fields.insert(key, self.value(depth)?);
        }
        Some(Value::Map(fields))
    }

    /// A node, relationship, point or time: skipped.
    fn structure(&mut self, fields: usize, depth: usize) -> Option<Value> {
        self.byte()?;
        for _ in 0..fields {
            self.value(depth)?;
        }
        Some(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::encode;
    use super::super::request::{Request, Statement};
    use super::*;

    /// What the server would decode of the parameter `x`.
    fn sent(value: Value) -> Value {
        let statement = Statement::new("RETURN $x").with("x", value);
        let mut bytes = Vec::new();
        encode::message(&Request::Run(&statement), [5, 4], &mut bytes);
        let mut message = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let (chunk, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
            message.extend(chunk);
            rest = tail;
        }
        let mut reader = Reader(&message);
        assert_eq!((reader.byte(), reader.byte()), (Some(0xb3), Some(0x10)));
        assert_eq!(reader.value(DEPTH), Some(Value::Text("RETURN $x".into())));
        let Some(Value::Map(mut parameters)) = reader.value(DEPTH) else { panic!("no map of parameters") };
        parameters.remove("x").unwrap()
    }

    #[test]
    fn every_length_and_number_arrives_as_it_was_sent() {
        let numbers = [0, 1, -1, -16, -17, 127, 128, -128, -129, 32_767, 32_768, -32_769, i64::from(i32::MAX)];
        for number in numbers.into_iter().chain([i64::from(i32::MIN) - 1, i64::MAX, i64::MIN]) {
            assert_eq!(sent(number.into()), Value::Integer(number));
        }
        for length in [0, 15, 16, 255, 256, 65_535, 65_536, 200_000] {
            assert_eq!(sent("a".repeat(length).into()), Value::Text("a".repeat(length)));
            let list: Value = std::iter::repeat_n(0.5, length).collect();
            assert_eq!(sent(list.clone()), list);
        }
        let map = Value::Map((0..300).map(|at| (format!("key {at}"), Value::Boolean(at % 2 == 0))).collect());
        assert_eq!(sent(map.clone()), map);
        assert_eq!(sent(Value::Null), Value::Null);
    }

    #[test]
    fn responses_are_recognised_and_broken_ones_are_not() {
        assert_eq!(response(&[0xb1, 0x70, 0xa0]), Some(Response::Success(BTreeMap::new())));
        assert_eq!(response(&[0xb1, 0x71, 0x91, 0x2a]), Some(Response::Record(vec![Value::Integer(42)])));
        assert_eq!(response(&[0xb0, 0x7e]), Some(Response::Ignored));
        // A node in a record is skipped.
        let node = [0xb1, 0x71, 0x92, 0xb3, 0x4e, 0x01, 0x90, 0xa0, 0x07];
        assert_eq!(response(&node), Some(Response::Record(vec![Value::Other, Value::Integer(7)])));
        for broken in [&[][..], &[0xb1], &[0xb1, 0x71, 0x91], &[0xb1, 0x33, 0xa0], &[0xb1, 0x70, 0xda, 0xff, 0xff]] {
            assert_eq!(response(broken), None, "{broken:x?}");
        }
    }
}
