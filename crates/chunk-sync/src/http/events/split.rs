//! Splits the text of a body into the JSON text of each event. Does not parse the events.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::refusal::MAX_EVENTS;
use crate::http::refusal::Refusal;

/// The format of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One event, or an array of them.
    Json,
    /// One event per line; blank lines are skipped.
    Lines,
}

impl Form {
    /// The format that `Content-Type` names.
    ///
    /// # Errors
    /// [`Refusal::WrongEncoding`] for a `Content-Encoding` other than `identity`; [`Refusal::WrongType`] if the type is
    /// missing or is neither `application/json` nor `application/x-ndjson`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::WrongEncoding(encoding));
        }
        let content_type = text(CONTENT_TYPE).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" => Ok(Self::Lines),
            _ => Err(Refusal::WrongType(content_type)),
        }
    }

    /// The JSON text of each event, in order.
    ///
    /// # Errors
    /// [`Refusal::NotJson`] if a JSON body is not one value; [`Refusal::Empty`] without an event; [`Refusal::TooMany`]
    /// with more than [`MAX_EVENTS`]. Lines are not checked for JSON here.
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

/// The first `MAX_EVENTS + 1` elements of an array. Limited, because 16 MiB can contain eight million elements.
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
