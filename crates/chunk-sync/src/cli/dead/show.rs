//! `dead show`: one dead letter with its fields.

use serde_json::Value;

use crate::cli::{Ended, Failure, output};
use crate::letters::{Dead, Field, Whole};

/// How many numbers of a vector, and characters of a base64 vector, are shown.
const NUMBERS: usize = 5;
const CHARACTERS: usize = 16;

pub(super) fn execute(dead: &Dead, json: bool) -> Result<Ended, Failure> {
    let whole = Whole::of(dead);
    if json {
        output::json(&whole)?;
    } else {
        output::line(text(dead))?;
    }
    Ok(Ended::Fine)
}

/// The value for display: JSON objects are indented and their vectors shortened.
fn shown_value(field: &Field) -> String {
    let text = match (&field.value, &field.base64) {
        (Some(text), _) => text,
        (None, base64) => return format!("(not UTF-8; base64) {}", base64.as_deref().unwrap_or_default()),
    };
    let json = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let shown = json.map(|mut value| {
        shorten(&mut value);
        serde_json::to_string_pretty(&value).unwrap_or_default()
    });
    output::printable_lines(shown.as_deref().unwrap_or(text))
}

pub(super) fn text(dead: &Dead) -> String {
    let (letter, reasons) = (&dead.letter, &dead.reasons);
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { output::printable(text) };
    let missing: Vec<&str> = reasons.missing.iter().map(|target| target.as_str()).collect();
    let when = reasons.at.map_or_else(|| "time unknown".to_owned(), |at| at.to_string());
    let mut lines = vec![
        format!("dead letter {}, dead-lettered: {when}", letter.id),
        format!("entry: {}", or(&reasons.stream_id, "none; the event was in the write-ahead log only")),
        format!("error: {} ({})", output::printable(&reasons.error), or(&reasons.class, "no class")),
        format!("field: {}", reasons.field.as_deref().map_or_else(|| "-".to_owned(), output::printable)),
        format!("attempts: {}; missing in: {}", reasons.attempts, or(&missing.join(", "), "-")),
        match (&dead.event, dead.superseded) {
            (Err(invalid), _) => output::printable(&format!("cannot be published again: {invalid}")),
            (Ok(_), true) => {
                format!("superseded by a newer change; to delete it, run `chunk-sync dead drop {}`", letter.id)
            }
            (Ok(_), false) => format!("to publish it again, run `chunk-sync dead retry {}`", letter.id),
        },
        String::new(),
    ];
    let fields = letter.original();
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let field = Field::of(name, value);
        format!("{}: {}", output::printable(&field.name), shown_value(&field))
    };
    lines.extend(fields.iter().map(field));
    lines.join("\n")
}

/// Shortens vectors: lists of numbers, and strings under `vector_b64`.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) if items.len() > NUMBERS && items.iter().all(Value::is_number) => {
            let count = items.len();
            items.truncate(NUMBERS);
            items.push(format!("… {count} numbers").into());
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "vector_b64" && text.chars().count() > CHARACTERS => {
                        let first: String = text.chars().take(CHARACTERS).collect();
                        *value = format!("{first}… {} characters", text.chars().count()).into();
                    }
                    value => shorten(value),
                }
            }
        }
        _ => {}
    }
}
