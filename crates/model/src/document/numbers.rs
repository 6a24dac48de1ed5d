//! Numbers as a vector store gives them back.

use serde_json::Value;

/// Replaces each number that is not a signed 64-bit integer by the nearest double with 15 significant digits.
///
/// Qdrant carries integers above 2^63 - 1 as doubles. It keeps a payload as JSON text and reads a double of 16 or 17
/// digits back with an error in the last place (1.18.3: about one in ten random doubles). A double of 15 digits either
/// comes back as it was, or rounds to the value that was written. Rounding both what is written and what is read makes
/// them comparable.
pub fn round_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_i64() => {
            if let Some(rounded) = number.as_f64().map(rounded) {
                *value = rounded.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(round_numbers),
        Value::Object(fields) => fields.values_mut().for_each(round_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The nearest double with 15 significant digits, or `number` where that would be above the greatest double.
fn rounded(number: f64) -> f64 {
    format!("{number:.14e}").parse().ok().filter(|rounded: &f64| rounded.is_finite()).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn neighbours_of_a_double_become_equal_and_short_numbers_stay() {
        for number in [0.345_982_165_108_345_74, 1e300 / 3.0, -2.0 / 3.0 * 1e-200, 123_456_789_012.345_67] {
            let once = rounded(number);
            assert!((once - number).abs() <= 5e-15 * number.abs(), "{number} became {once}");
            for neighbour in [once.next_up(), once.next_down()] {
                assert_eq!(rounded(neighbour).to_bits(), once.to_bits(), "{number}");
            }
        }
        for number in [0.0, -0.0, 0.1, 1.0, 1e16, 5e-324, 123_456_789_012_345.0, f64::MAX, f64::MIN] {
            assert_eq!(rounded(number).to_bits(), number.to_bits());
        }
    }

    #[test]
    fn signed_integers_are_exact_and_larger_ones_become_doubles() {
        let mut value = json!([i64::MAX, i64::MIN, 7, { "a": 1_u64 << 63, "b": [u64::MAX, 1.0] }]);
        round_numbers(&mut value);
        let large = json!({ "a": 9_223_372_036_854_780_000.0, "b": [18_446_744_073_709_600_000.0, 1.0] });
        assert_eq!(value, json!([i64::MAX, i64::MIN, 7, large]));
    }
}
