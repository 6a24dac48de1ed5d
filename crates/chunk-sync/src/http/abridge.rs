//! Shortens vectors in JSON for people: they make up most of a chunk, and a reader cannot use their numbers.

use serde_json::{Value, json};

/// Lists of numbers up to this length stay.
const SHORT: usize = 16;

/// How many numbers of a longer list are shown.
const FIRST: usize = 4;

/// Texts under `vector_b64` up to this length stay.
const TEXT: usize = 64;

/// Replaces long lists of numbers by `{"numbers": length, "first": […]}`, and cuts vectors in base64.
pub(super) fn abridge(value: &mut Value) {
    match value {
        Value::Array(items) if items.len() > SHORT && items.iter().all(Value::is_number) => {
            *value = json!({"numbers": items.len(), "first": items[..FIRST]});
        }
        Value::Array(items) => items.iter_mut().for_each(abridge),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "vector_b64" && text.len() > TEXT => {
                        *field = json!({"characters": text.len()});
                    }
                    field => abridge(field),
                }
            }
        }
        _ => {}
    }
}

/// A value as JSON, with its vectors shortened; null if it is no JSON.
pub(super) fn abridged(value: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    abridge(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_shortened_and_the_rest_stays() {
        let value =
            json!({"a": vec![0.5; 768], "b": [1, 2], "c": {"vector_b64": "A".repeat(100)}, "d": "A".repeat(100)});
        let wanted = json!({
            "a": {"numbers": 768, "first": [0.5, 0.5, 0.5, 0.5]}, "b": [1, 2], "c": {"vector_b64": {"characters": 100}},
            "d": "A".repeat(100)
        });
        assert_eq!(abridged(&value), wanted);
    }
}
