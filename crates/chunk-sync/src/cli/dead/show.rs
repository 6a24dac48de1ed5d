//! `dead show`: one dead letter with its fields.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value;

use super::Dead;
use super::list::Line;
use crate::cli::{Ended, Failure, output};

/// How many numbers of a vector, and characters of a base64 vector, are shown.
const NUMBERS: usize = 5;
const CHARACTERS: usize = 16;

/// The dead letter as JSON.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    line: Line,
    /// Why it cannot be published again.
    unreadable: Option<Unreadable>,
    /// The original fields, in their order; a name can occur twice.
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Unreadable {
    field: String,
    error: String,
}

/// An original field: as text if it is UTF-8, else as base64.
#[derive(Serialize)]
struct Field {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

pub(super) fn execute(dead: &Dead, json: bool) -> Result<Ended, Failure> {
    let whole = Whole::of(dead);
    if json {
        output::json(&whole)?;
    } else {
        output::line(text(dead))?;
    }
    Ok(Ended::Fine)
}

impl Whole {
    fn of(dead: &Dead) -> Self {
        let unreadable = dead.event.as_ref().err();
        Self {
            line: Line::of(dead),
            unreadable: unreadable.map(|e| Unreadable { field: e.field.clone(), error: e.message.clone() }),
            fields: dead.letter.original().iter().map(|(name, value)| Field::of(name, value)).collect(),
        }
    }
}

impl Field {
    fn of(name: &[u8], value: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).into_owned();
        match std::str::from_utf8(value) {
            Ok(text) => Self { name, value: Some(text.to_owned()), base64: None },
            Err(_) => Self { name, value: None, base64: Some(BASE64.encode(value)) },
        }
    }

    /// The value for display: JSON objects are indented and their vectors shortened.
    fn shown(&self) -> String {
        let text = match (&self.value, &self.base64) {
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
        format!("{}: {}", output::printable(&field.name), field.shown())
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
