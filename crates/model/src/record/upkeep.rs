//! What expiry needs to know of a record beside its content: when each setting was recorded, and each writer's last
//! whole view. It follows the record, in the order of its writers, parts and settings. Of a record without it, which an
//! earlier build wrote, nothing is known: the settings count as recorded when they are next stamped.

use serde::{Deserialize, Serialize};

use super::{Record, RecordError};
use crate::Time;

#[derive(Default, Serialize, Deserialize)]
struct Upkeep {
    whole: Vec<Time>,
    recorded: Vec<u32>,
}

impl Record {
    /// Appends it to the encoded record.
    pub(super) fn append_upkeep(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let histories = || self.writers.values();
        let settings = histories().flat_map(|history| history.parts.values().flatten());
        let upkeep = Upkeep {
            whole: histories().map(|history| history.whole).collect(),
            recorded: settings.map(|setting| setting.recorded).collect(),
        };
        Ok(postcard::to_extend(&upkeep, bytes)?)
    }

    /// Takes it from the bytes that follow the encoded record.
    pub(super) fn take_upkeep(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Upkeep { whole, recorded } = postcard::from_bytes(bytes)?;
        for (history, whole) in self.writers.values_mut().zip(whole) {
            history.whole = whole;
        }
        let settings = self.writers.values_mut().flat_map(|history| history.parts.values_mut().flatten());
        settings.zip(recorded).for_each(|(setting, recorded)| setting.recorded = recorded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{FORMAT, History, Setting};
    use super::*;
    use crate::{Hash, Part, Writer};

    fn record(recorded: u32, whole: Time) -> Record {
        let (time, hash) = (Time::from_micros(7), Some(Hash::of_bytes(b"red")));
        let setting =
            Setting { time, count: 0, hash, stored: None, on_purpose: false, made_for: None, value: None, recorded };
        let mut record = Record::default();
        for writer in [Writer::Claude, Writer::Cognee] {
            let history = record.writers.entry(writer).or_insert_with(History::new);
            (history.last, history.whole) = (time, whole);
            history.parts.insert(Part::Content, vec![setting.clone(), setting.clone()]);
        }
        record
    }

    #[test]
    fn a_record_is_read_with_and_without_it() {
        let with = record(480_000, Time::from_micros(5));
        assert_eq!(Record::decode(&with.encode().unwrap()).unwrap(), with);
        let without = postcard::to_extend(&with, vec![FORMAT]).unwrap();
        let read = Record::decode(&without).unwrap();
        assert_eq!(read, record(0, History::new().whole));
        assert_eq!(Record::decode(&read.encode().unwrap()).unwrap(), read);
    }
}
