//! Canonical JSON: compact, the keys of every object sorted by their bytes, floats in their shortest form as 64 bits.
//!
//! An object is written as it comes, and its members are put in order when it ends: no tree of values is built, and the
//! buffers are used again.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The buffers of one thread: hashes are computed by the thousand, and most are of a few bytes.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    members: Vec<Member>,
    objects: Vec<usize>,
    sorted: Vec<u8>,
}

/// A longer buffer is given back at once.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Calls `read` with the canonical JSON of `value`.
pub(super) fn with_canonical_json<T: Serialize + ?Sized, R>(value: &T, read: impl FnOnce(&[u8]) -> R) -> R {
    // A value whose serialisation hashes another one finds empty buffers.
    let Buffers { bytes, members, objects, sorted } = BUFFERS.take();
    let bytes = RefCell::new(bytes);
    let mut sorting = Sorting { bytes: &bytes, members, objects, sorted };
    let written = value.serialize(&mut Serializer::with_formatter(Buffer(&bytes), &mut sorting));
    debug_assert!(written.is_ok(), "JSON cannot represent the value");
    let Sorting { mut members, mut objects, sorted, .. } = sorting;
    let mut bytes = bytes.into_inner();
    let result = read(&bytes);
    if bytes.capacity().max(sorted.capacity()) <= KEPT_BYTES {
        bytes.clear();
        members.clear();
        objects.clear();
        BUFFERS.set(Buffers { bytes, members, objects, sorted });
    }
    result
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
    /// The members so far of all open objects, those of the innermost last.
    members: Vec<Member>,
    /// The number of members before each open object.
    objects: Vec<usize>,
    sorted: Vec<u8>,
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
}

impl Formatter for &mut Sorting<'_> {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.push(self.members.len());
        CompactFormatter.begin_object(writer)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        CompactFormatter.begin_object_key(writer, first)?;
        let start = self.len();
        self.members.push(Member { key: start..start, end: start });
        Ok(())
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        if let Some(member) = self.members.last_mut() {
            member.key.end = end;
        }
        Ok(())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.len();
        if let Some(member) = self.members.last_mut() {
            member.end = end;
        }
        Ok(())
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        let first = self.objects.pop().unwrap_or_default();
        let Sorting { bytes, members, sorted, .. } = &mut **self;
        sort(&mut bytes.borrow_mut(), &mut members[first..], sorted);
        members.truncate(first);
        CompactFormatter.end_object(writer)
    }
}

/// Puts the members, which are the last bytes, in the order of their keys.
fn sort(bytes: &mut Vec<u8>, members: &mut [Member], sorted: &mut Vec<u8>) {
    let Some(start) = members.first().map(|member| member.key.start) else { return };
    let key_of = |member: &Member| key(&bytes[member.key.clone()]);
    if members.is_sorted_by(|one, next| key_of(one) <= key_of(next)) {
        return;
    }
    members.sort_by(|one, other| key_of(one).cmp(&key_of(other)));
    sorted.clear();
    for member in members {
        if !sorted.is_empty() {
            sorted.push(b',');
        }
        sorted.extend_from_slice(&bytes[member.key.start..member.end]);
    }
    bytes.truncate(start);
    bytes.extend_from_slice(sorted);
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
        with_canonical_json(value, |bytes| String::from_utf8(bytes.to_vec()).unwrap())
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

    #[test]
    fn a_long_value_leaves_nothing_to_the_next_one() {
        let long = json!({ "text": "x".repeat(KEPT_BYTES), "a": 1 });
        assert_eq!(text(&long), by_tree(&long));
        assert_eq!(text(&json!({ "b": 1, "a": {} })), r#"{"a":{},"b":1}"#);
    }

    /// How floats are written depends on the version of `serde_json`; records keep the hashes of earlier versions.
    #[test]
    fn the_form_is_the_one_on_record() {
        let value = json!({"b": [1.0, 1e16, 0.1, {"y": null, "x": "\n"}], "a!": -0.0, "a": true});
        assert_eq!(text(&value), r#"{"a":true,"a!":-0.0,"b":[1.0,1e+16,0.1,{"x":"\n","y":null}]}"#);
    }
}
