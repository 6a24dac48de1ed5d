//! From the text of a body to the text of each event in it. What an event says is not read here.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_EVENTS;
use crate::http::refusal::Refusal;

/// How the events stand in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One event, or an array of them.
    Json,
    /// One event a line; blank lines mean nothing.
    Lines,
}

impl Form {
    /// What the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let said = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        if let Some(encoding) = said(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::WrongEncoding(encoding));
        }
        let said = said(CONTENT_TYPE).unwrap_or_default();
        let kind = said.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" => Ok(Self::Lines),
            _ => Err(Refusal::WrongType(said)),
        }
    }

    /// The JSON of each event, in order.
    pub(super) fn split(self, text: &str) -> Result<Vec<&str>, Refusal> {
        let events: Vec<&str> = match self {
            Self::Lines => text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_EVENTS + 1).collect(),
            Self::Json if text.trim().is_empty() => Vec::new(),
            Self::Json if text.trim_start().starts_with('[') => {
                serde_json::from_str::<Elements<'_>>(text).map_err(Refusal::NotJson)?.0
            }
            Self::Json => vec![serde_json::from_str::<&RawValue>(text).map_err(Refusal::NotJson)?.get()],
        };
        match events.len() {
            0 => Err(Refusal::Empty),
            1..=MAX_EVENTS => Ok(events),
            _ => Err(Refusal::TooMany),
        }
    }
}

/// The elements of an array, as many as are allowed and one: 16 MiB hold eight million.
struct Elements<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Listed;

        impl<'de> Visitor<'de> for Listed {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() <= MAX_EVENTS
                    && let Some(element) = seq.next_element::<&RawValue>()?
                {
                    elements.push(element.get());
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Elements(elements))
            }
        }

        deserializer.deserialize_seq(Listed)
    }
}
