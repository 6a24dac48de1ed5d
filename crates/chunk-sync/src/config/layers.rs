//! The layers of the configuration: the value of each key, and the layer that set it. This module checks that a key exists
//! and that a value has the type of its default; it does not interpret values.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{DEFAULTS, Finding};

/// Prefix of environment variables. Two underscores in the rest of the name stand for a dot.
const PREFIX: &str = "CHUNK_SYNC__";

/// The layer that set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in default.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// A key with its effective value. Has no `Debug`: the value may be a secret.
pub struct Entry {
    /// The key, such as `http.listen`.
    pub key: String,
    pub(super) value: Value,
    /// The layer that set the value.
    pub origin: Origin,
}

/// Every key with its value, in the order of the commented file.
pub struct Layers(Vec<Entry>);

impl Layers {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Self {
        // Cannot fail: the text is compiled in, and a test parses it.
        let table: Table = DEFAULTS.parse().unwrap_or_default();
        let entries = flatten(table).into_iter();
        let entry = |(key, value)| Entry { key, value, origin: Origin::Default };
        Self(entries.map(entry).collect())
    }

    /// Every key, in the order of the commented file.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Overrides values with those of a file.
    pub(super) fn file(&mut self, path: &Path, findings: &mut Vec<Finding>) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(&text, path, findings),
            Err(error) => findings.push(Finding {
                key: path.display().to_string(),
                origin: Origin::File(path.to_owned()),
                message: format!("cannot be read: {error}"),
            }),
        }
    }

    /// Overrides values with those of the text of a file.
    pub(super) fn text(&mut self, text: &str, path: &Path, findings: &mut Vec<Finding>) {
        let origin = Origin::File(path.to_owned());
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let message = syntax(text, &error);
                return findings.push(Finding { key: path.display().to_string(), origin, message });
            }
        };
        for (key, value) in flatten(table) {
            self.set(key, value, origin.clone(), findings);
        }
    }

    /// Overrides values with the variables that begin with the prefix.
    pub(super) fn environment(&mut self, variables: &[(String, String)], findings: &mut Vec<Finding>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let key = rest.to_lowercase().replace("__", ".");
            let origin = Origin::Environment(name.clone());
            match self.get(&key).map(|entry| parse(text, &entry.value)) {
                Some(Ok(value)) => self.set(key, value, origin, findings),
                Some(Err(message)) => findings.push(Finding { key, origin, message }),
                None => findings.push(self.unknown(key, origin)),
            }
        }
    }

    fn set(&mut self, key: String, value: Value, origin: Origin, findings: &mut Vec<Finding>) {
        let Some(entry) = self.0.iter_mut().find(|entry| entry.key == key) else {
            findings.push(self.unknown(key, origin));
            return;
        };
        if same_kind(&entry.value, &value) {
            (entry.value, entry.origin) = (value, origin);
        } else {
            let message = format!("must be {}, not {}", kind(&entry.value), kind(&value));
            findings.push(Finding { key, origin, message });
        }
    }

    fn unknown(&self, key: String, origin: Origin) -> Finding {
        let closest = self.0.iter().map(|entry| entry.key.as_str());
        let message = match near_miss(&key, closest) {
            Some(other) => format!("unknown key; did you mean `{other}`?"),
            None => "unknown key; `chunk-sync config show` lists all keys".to_owned(),
        };
        Finding { key, origin, message }
    }
}

/// The element of `known` that is most similar to `word`; `None` if none is similar.
pub(super) fn near_miss<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |other: &&str| {
        let whole = strsim::damerau_levenshtein(word, other);
        // The right name in the wrong section counts as similar.
        let moved = if last(word) == last(other) { 2 } else { usize::MAX };
        whole.min(moved)
    };
    let (other, distance) = known.map(|other| (other, distance(&other))).min_by_key(|(_, d)| *d)?;
    (distance <= 2.max(word.len() / 5)).then_some(other)
}

/// Flattens sections to `section.key`. The list of models stays one value.
fn flatten(table: Table) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                let inner = section.into_iter();
                flat.extend(inner.map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => flat.push((name, value)),
        }
    }
    flat
}

/// Describes a syntax error without quoting the line, which may contain a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message().replace('\n', ", "))
}

/// Parses the text of a variable as a value of the type of `like`.
fn parse(text: &str, like: &Value) -> Result<Value, String> {
    match like {
        Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| "must be a whole number".to_owned()),
        Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| "must be true or false".to_owned()),
        Value::Array(list) if list.iter().any(Value::is_table) => serde_json::from_str(text).map_err(|error| {
            let place = format!("column {}", error.column());
            format!("must be a JSON array of objects with model, vector and size ({place})")
        }),
        Value::Array(_) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(Value::from).collect::<Vec<_>>().into())
        }
        _ => Ok(text.into()),
    }
}

fn same_kind(a: &Value, b: &Value) -> bool {
    a.same_type(b)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}
