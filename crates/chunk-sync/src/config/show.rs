//! Prints the effective configuration, with `***` in place of every secret.

use std::fmt::Write as _;

use serde_json::{Map, json};
use toml::Value;

use super::{Address, Layers, Origin};

/// Replaces a secret.
const HIDDEN: &str = "***";

/// Keys whose whole value is secret.
const SECRETS: [&str; 4] = ["redis.sentinel_password", "qdrant.api_key", "neo4j.password", "http.token"];

impl Layers {
    /// The configuration as TOML. A comment after each value that is not a default names the layer that set it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for entry in self.entries() {
            let (own, key) = entry.key.split_once('.').unwrap_or(("", &entry.key));
            let value = shown(&entry.key, &entry.value);
            let origin = match &entry.origin {
                Origin::Default => String::new(),
                set => format!("  # {set}"),
            };
            if let Some(tables) = tables(&value) {
                for table in tables {
                    let _ = write!(text, "\n[[{key}]]{origin}\n{table}");
                }
                continue;
            }
            if own != section {
                section = own;
                let _ = write!(text, "\n[{section}]\n");
            }
            let _ = writeln!(text, "{key} = {value}{origin}");
        }
        text
    }

    /// The configuration as one JSON object: `{"section.key": {"value": …, "origin": "…"}}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let entry = |entry: &super::layers::Entry| {
            let value = shown(&entry.key, &entry.value);
            (entry.key.clone(), json!({"value": value, "origin": entry.origin.to_string()}))
        };
        self.entries().map(entry).collect::<Map<_, _>>().into()
    }
}

/// The tables of a list of tables, each as TOML; `None` for any other value.
fn tables(value: &Value) -> Option<impl Iterator<Item = String>> {
    let list = value.as_array().filter(|list| list.iter().any(Value::is_table))?;
    Some(list.iter().filter_map(Value::as_table).map(ToString::to_string))
}

/// The value with secrets replaced.
fn shown(key: &str, value: &Value) -> Value {
    if key == "redis.sentinels" {
        return value.as_array().into_iter().flatten().map(without_user).collect::<Vec<_>>().into();
    }
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else {
        return value.clone();
    };
    if SECRETS.contains(&key) {
        return HIDDEN.into();
    }
    if key.starts_with("postgres.") && key.ends_with("url") {
        return Address::postgres(text.trim()).map_or_else(|_| HIDDEN.to_owned(), |address| address.to_string()).into();
    }
    match text.split_once("://") {
        // Any scheme is accepted here: only the password matters.
        Some((scheme, _)) => Address::parse(text.trim(), &[scheme.trim()])
            .map_or_else(|_| HIDDEN.to_owned(), |address| address.to_string())
            .into(),
        None if key.ends_with("url") => HIDDEN.into(),
        None => value.clone(),
    }
}

/// An element of a list of hosts. A list that contains passwords is refused, but `config show` prints it.
fn without_user(place: &Value) -> Value {
    match place.as_str().and_then(|place| place.rsplit_once('@')) {
        Some((_, place)) => format!("{HIDDEN}@{place}").into(),
        None => place.clone(),
    }
}
