//! How much the table of waiting events holds. While that is above its bound, the worker reads nothing more from the bus:
//! what would have to wait stays there, in its order, and a full bus makes publishers wait. The drain continues.
//!
//! Measured every second; what is added in between is counted. So the table exceeds the bound by no more than was read
//! before, and by what the log had at a start.
//!
//! Whether a refusal is poison shows only by the results of other events. So while refused events wait and no breaker
//! holds, as after a restart, reading continues.

use tracing::{info, warn};

use crate::pipeline::breakers::Breakers;
use crate::ports::{Fault, NewWaiting, WaitReason, WaitingCount, WaitingEvents};
use crate::runtime::settings::WorkerSettings;
use crate::runtime::shared_value::SharedValue;

/// A number of events and the bytes of their fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    events: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Known {
    measured: Amount,
    /// Whether some of it waits because a store refused it.
    refused: bool,
    /// Everything that this process added, and how much of that the measurement has seen.
    added: Amount,
    seen: Amount,
    /// Whether the log states that the table is full.
    reported: bool,
}

/// What is known of the table, and its bound.
#[derive(Debug)]
pub(crate) struct WaitingAmount {
    known: SharedValue<Known>,
    most: Amount,
}

impl WaitingAmount {
    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        let most = Amount { events: settings.waiting_events, bytes: settings.waiting_bytes };
        Self { known: SharedValue::default(), most }
    }

    /// Counts events that are being added.
    pub(crate) fn add(&self, events: &[NewWaiting]) {
        let fields = events.iter().flat_map(|event| &event.fields);
        let bytes: usize = fields.map(|(name, value)| name.len() + value.len()).sum();
        self.known.change(|known| {
            known.added.events += events.len() as u64;
            known.added.bytes += bytes as u64;
        });
    }

    /// Measures the table, and returns the counts.
    pub(crate) async fn measure(&self, table: &dyn WaitingEvents) -> Result<Vec<WaitingCount>, Fault> {
        // What is added while the table is read may be counted twice until the next measurement.
        let seen = self.known.read(|known| known.added);
        let counts = table.waiting_counts().await?;
        let measured = counts.iter().fold(Amount::default(), |sum, count| Amount {
            events: sum.events + count.events,
            bytes: sum.bytes + count.bytes,
        });
        let refused = counts.iter().any(|count| count.reason == WaitReason::Refused);
        self.known.change(|known| (known.measured, known.seen, known.refused) = (measured, seen, refused));
        self.report();
        Ok(counts)
    }

    /// Waits until more may be read.
    pub(crate) async fn room(&self, breakers: &Breakers) {
        let is_open = |known: &Known| !known.is_full(self.most) || (known.refused && !breakers.hold_after_admission());
        self.known.until(is_open).await;
    }

    /// That the table is full, with the remedy; `None` if it is not.
    pub(crate) fn full(&self) -> Option<String> {
        let held = self.known.read(|known| known.is_full(self.most).then(|| known.held()))?;
        Some(format!(
            "{} events of {} bytes wait until they can be merged, the limits are {} (worker.waiting_events) and {} bytes \
             (worker.waiting_bytes): nothing more is read from the bus; the metric chunk_sync_waiting_events shows what \
             they wait for",
            held.events, held.bytes, self.most.events, self.most.bytes
        ))
    }

    fn report(&self) {
        let full = self.full();
        let mut changed = false;
        self.known.change(|known| changed = std::mem::replace(&mut known.reported, full.is_some()) != full.is_some());
        match full {
            Some(full) if changed => warn!("{full}"),
            None if changed => info!("the waiting events are below their limit; reading from the bus again"),
            _ => {}
        }
    }
}

impl Known {
    fn held(&self) -> Amount {
        Amount {
            events: self.measured.events + self.added.events - self.seen.events,
            bytes: self.measured.bytes + self.added.bytes - self.seen.bytes,
        }
    }

    fn is_full(&self, most: Amount) -> bool {
        let held = self.held();
        held.events >= most.events || held.bytes >= most.bytes
    }
}
