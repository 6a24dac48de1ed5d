//! Canonical JSON: compact, the keys of every object sorted by their bytes, floats in their shortest form as 64 bits.
//!
//! An object is written as it comes, and its members are put in order when it ends: no tree of values is built.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The canonical JSON of `value`.
pub(super) fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let bytes = RefCell::new(Vec::new());
    let sorting = Sorting { bytes: &bytes, objects: Vec::new() };
    let written = value.serialize(&mut Serializer::with_formatter(Buffer(&bytes), sorting));
    debug_assert!(written.is_ok(), "JSON cannot represent the value");
    bytes.into_inner()
}

/// The writer of the serializer, which shares the bytes with its formatter.
struct Buffer<'a>(&'a RefCell<Vec<u8>>);

impl Write for Buffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sorting<'a> {
    bytes: &'a RefCell<Vec<u8>>,
    /// The members so far of each open object, the innermost last.
    objects: Vec<Vec<Member>>,
}

/// Where a member stands in the bytes.
struct Member {
    /// With its quotation marks.
    key: Range<usize>,
    end: usize,
}

impl Sorting<'_> {
    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn last(&mut self) -> Option<&mut Member> {
        self.objects.last_mut()?.last_mut()
    }
}

impl Formatter for Sorting<'_> {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.push(Vec::new());
        CompactFormatter.begin_object(writer)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        CompactFormatter.begin_object_key(writer, first)?;
        let start = self.len();
        if let Some(members) = self.objects.last_mut() {
            members.push(Member { key: start..start, end: start });
        }
        Ok(())
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        if let Some(member) = self.last() {
            member.key.end = end;
        }
        Ok(())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        if let Some(member) = self.last() {
            member.end = end;
        }
        Ok(())
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        sort(&mut self.bytes.borrow_mut(), &self.objects.pop().unwrap_or_default());
        CompactFormatter.end_object(writer)
    }
}

/// Puts the members, which are the last bytes, in the order of their keys.
fn sort(bytes: &mut Vec<u8>, members: &[Member]) {
    let Some(start) = members.first().map(|member| member.key.start) else { return };
    let mut keyed: Vec<_> = members.iter().map(|member| (key(&bytes[member.key.clone()]), member)).collect();
    if keyed.is_sorted_by(|(one, _), (next, _)| one <= next) {
        return;
    }
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut sorted = Vec::with_capacity(bytes.len() - start);
    for (_, member) in keyed {
        if !sorted.is_empty() {
            sorted.push(b',');
        }
        sorted.extend_from_slice(&bytes[member.key.start..member.end]);
    }
    bytes.truncate(start);
    bytes.append(&mut sorted);
}

/// A key without quotation marks and escapes: they would change the order.
fn key(quoted: &[u8]) -> Cow<'_, [u8]> {
    let plain = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !plain.contains(&b'\\') {
        return plain.into();
    }
    serde_json::from_slice::<String>(quoted).unwrap_or_default().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What the hashes of format 1 were defined by: a tree of values, sorted, then written.
    fn by_tree<T: Serialize + ?Sized>(value: &T) -> String {
        let mut value = serde_json::to_value(value).unwrap();
        value.sort_all_objects();
        value.to_string()
    }

    fn text<T: Serialize + ?Sized>(value: &T) -> String {
        String::from_utf8(canonical_json(value)).unwrap()
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                // Keys that are prefixes of each other, and with characters that JSON escapes.
                prop::collection::hash_map("[ab!\"\\\\\\PC\n\u{1}é]{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_written_as_its_sorted_tree(value in values()) {
            prop_assert_eq!(text(&value), by_tree(&value));
        }

        #[test]
        fn floats_of_32_bits_are_written_as_64(values in prop::collection::vec(any::<f32>(), 0..20)) {
            prop_assert_eq!(text(&values), by_tree(&values));
        }
    }

    #[derive(Serialize)]
    struct Fields {
        z: Kind,
        #[serde(flatten)]
        further: HashMap<String, u64>,
        b: Option<Tuple>,
        a: HashMap<u8, f32>,
    }

    #[derive(Serialize)]
    struct Tuple(&'static str, ());

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Unit,
        One(char),
        Two(u8, i8),
        Named { y: u8, x: u8 },
    }

    #[test]
    fn structures_are_written_as_their_sorted_tree() {
        for z in [Kind::Unit, Kind::One('é'), Kind::Two(1, -1), Kind::Named { y: 1, x: 2 }] {
            let further = (0..20).map(|number| (format!("k{number}"), number)).collect();
            let b = Some(Tuple("x", ()));
            let fields = Fields { z, further, b, a: (0..12).map(|number| (number, f32::from(number) / 3.0)).collect() };
            assert_eq!(text(&fields), by_tree(&fields));
        }
    }

    /// How floats are written depends on the version of `serde_json`; records keep the hashes of earlier versions.
    #[test]
    fn the_form_is_the_one_on_record() {
        let value = json!({"b": [1.0, 1e16, 0.1, {"y": null, "x": "\n"}], "a!": -0.0, "a": true});
        assert_eq!(text(&value), r#"{"a":true,"a!":-0.0,"b":[1.0,1e+16,0.1,{"x":"\n","y":null}]}"#);
    }
}
