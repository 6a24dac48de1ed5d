//! The events that wait, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    EntryId, Fault, Fence, NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents,
};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::MemoryRecords;

/// A read ends with the event with which it has this many bytes of fields.
const READ_BYTES: usize = 8 << 20;

/// The table. Clones share it.
#[derive(Clone, Default)]
pub(super) struct WaitingTable(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    events: BTreeMap<u64, NewWaiting>,
    ever: u64,
}

#[async_trait]
impl WaitingEvents for MemoryRecords {
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Fault> {
        let _fence = match fence.lease {
            Some(token) => Some(self.lease.fence(token).await?),
            None => None,
        };
        let mut table = self.waiting.0.lock().unwrap();
        for event in events {
            if table.events.values().all(|other| other.name != event.name) {
                table.ever += 1;
                let number = table.ever;
                table.events.insert(number, event.clone());
            }
        }
        if let Some(bus) = &self.bus {
            bus.finish(finished);
        }
        Ok(())
    }

    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault> {
        let table = self.waiting.0.lock().unwrap();
        let since = Time::from_micros(0);
        let mut bytes = 0;
        let fits = |(_, event): &(&u64, &NewWaiting)| {
            let fits = bytes < READ_BYTES;
            bytes += event.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            fits
        };
        let of = table.events.iter().filter(|(_, event)| chunks.contains(&event.chunk)).take(limit).take_while(fits);
        Ok(of.map(|(number, event)| WaitingEvent { number: *number, since, event: event.clone() }).collect())
    }

    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault> {
        let mut chunks: BTreeMap<Uuid, u64> = BTreeMap::new();
        for event in self.waiting.0.lock().unwrap().events.values() {
            *chunks.entry(event.chunk).or_default() += 1;
        }
        Ok(chunks.into_iter().collect())
    }

    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault> {
        let mut counts: BTreeMap<WaitReason, WaitingCount> = BTreeMap::new();
        for event in self.waiting.0.lock().unwrap().events.values() {
            let none = WaitingCount { reason: event.reason, events: 0, bytes: 0, since: Time::from_micros(0) };
            let count = counts.entry(event.reason).or_insert(none);
            count.events += 1;
            count.bytes += event.fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
        }
        Ok(counts.into_values().collect())
    }

    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault> {
        let mut table = self.waiting.0.lock().unwrap();
        for number in numbers {
            if let Some(event) = table.events.get_mut(number) {
                (event.reason, event.error) = (reason, error.to_owned());
            }
        }
        Ok(())
    }

    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault> {
        let mut table = self.waiting.0.lock().unwrap();
        numbers.iter().for_each(|number| drop(table.events.remove(number)));
        Ok(())
    }
}
