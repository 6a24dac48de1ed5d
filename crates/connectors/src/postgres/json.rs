//! JSON written by other programs: PostgreSQL stores numbers of any size and any nesting, a chunk only some. Not here:
//! what the values mean.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, from_str};

/// Parses a column. A part that a chunk cannot hold becomes a string of its JSON text, so that neither that part nor
/// its neighbours are lost when the row is written again.
pub(super) fn parse(text: &str) -> Value {
    from_str(text).unwrap_or_else(|_| match from_str::<Vec<&RawValue>>(text) {
        Ok(values) => values.into_iter().map(|value| held(value.get(), 1)).collect(),
        Err(_) => held(text, 2),
    })
}

/// The value, or its text. In objects, down to `levels` levels, each key is handled separately.
fn held(text: &str, levels: u32) -> Value {
    let parted = || if levels > 0 { by_key(text, levels - 1) } else { None };
    from_str(text).ok().or_else(parted).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn by_key(text: &str, levels: u32) -> Option<Value> {
    let map: BTreeMap<String, &RawValue> = from_str(text).ok()?;
    Some(map.into_iter().map(|(key, value)| (key, held(value.get(), levels))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_a_chunk_cannot_hold_becomes_its_text() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for (text, value) in [
            (r#"{"a":1}"#.to_owned(), json!({ "a": 1 })),
            ("1e400".to_owned(), json!("1e400")),
            (
                r#"{"a":1e400,"b":{"c":-1e999,"d":"\u00e9"}}"#.into(),
                json!({ "a": "1e400", "b": { "c": "-1e999", "d": "é" } }),
            ),
            (r#"[{"id":"x","n":1e400},{"id":"y"}]"#.into(), json!([{ "id": "x", "n": "1e400" }, { "id": "y" }])),
            (r#"{"a":{"b":{"c":1e400}},"d":[]}"#.into(), json!({ "a": { "b": r#"{"c":1e400}"# }, "d": [] })),
            (format!(r#"{{"a":{{"b":{deep}}},"\"":2}}"#), json!({ "a": { "b": deep }, "\"": 2 })),
        ] {
            assert_eq!(parse(&text), value, "{text}");
        }
    }
}
