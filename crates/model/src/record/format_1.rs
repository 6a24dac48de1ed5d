//! Format 1 of a record, which version 0.1.0 wrote: without stored forms.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use super::Reported;
use crate::{Hash, Part, SyncVersion, Time, Writer};

pub(super) const FORMAT: u8 = 1;

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct Record {
    version: SyncVersion,
    writers: BTreeMap<Writer, History>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct History {
    last: Time,
    seen: Vec<Uuid>,
    reported: Reported,
    parts: BTreeMap<Part, Vec<Setting>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Setting {
    time: Time,
    count: u32,
    hash: Option<Hash>,
    on_purpose: bool,
    made_for: Option<Hash>,
    value: Option<String>,
}

impl From<Record> for super::Record {
    fn from(record: Record) -> Self {
        let writers = record.writers.into_iter().map(|(writer, history)| (writer, history.into())).collect();
        Self { version: record.version, writers, forms: Box::default() }
    }
}

impl From<History> for super::History {
    fn from(history: History) -> Self {
        let History { last, seen, reported, parts } = history;
        let settings = |settings: Vec<Setting>| settings.into_iter().map(Into::into).collect();
        let parts = parts.into_iter().map(|(part, list)| (part, settings(list))).collect();
        Self { last, seen, reported, parts, ..Self::new() }
    }
}

impl From<Setting> for super::Setting {
    fn from(setting: Setting) -> Self {
        let Setting { time, count, hash, on_purpose, made_for, value } = setting;
        Self { time, count, hash, stored: None, on_purpose, made_for, value, recorded: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::record::Record as Current;

    #[test]
    fn a_record_of_the_older_format_is_read() {
        let setting = |value: &str| Setting {
            time: Time::from_micros(7),
            count: 1,
            hash: Some(Hash::of_bytes(value.as_bytes())),
            on_purpose: true,
            made_for: None,
            value: Some(value.to_owned()),
        };
        let history = History {
            last: Time::from_micros(8),
            seen: vec![Uuid::max()],
            reported: Reported { created_at: Some(Time::from_micros(3)), ..Reported::default() },
            parts: BTreeMap::from([(Part::Content, vec![setting("one"), setting("two")])]),
        };
        let old = Record { version: SyncVersion::default(), writers: BTreeMap::from([(Writer::Claude, history)]) };
        let bytes = postcard::to_extend(&old, vec![FORMAT]).unwrap();
        let read = Current::decode(&bytes).unwrap();
        let history = &read.writers[&Writer::Claude];
        assert_eq!((history.last, history.seen.as_slice()), (Time::from_micros(8), &[Uuid::max()][..]));
        let settings = &history.parts[&Part::Content];
        assert_eq!(settings[1].value.as_deref(), Some("two"));
        assert!(settings.iter().all(|setting| setting.stored.is_none()) && *read.forms == Default::default());
        assert_eq!(Current::decode(&read.encode().unwrap()).unwrap(), read);
    }
}
