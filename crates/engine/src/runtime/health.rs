//! The state of the service as its callers see it.

use chunk_sync_model::{Target, Time};

use crate::pipeline::clocks::ahead_message;
use crate::pipeline::recovery::Recovered;
use crate::pipeline::store_writer::Condition;
use crate::ports::{BusCondition, EntryId, Fault};
use crate::runtime::lease::Role;
use crate::runtime::progress::Done;

/// The state of the service.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether this process holds the lease or stands by.
    pub role: Role,
    /// What was replayed at the start; `None` until the replay has ended.
    pub recovered: Option<Recovered>,
    /// Why the worker ended; `None` while it runs.
    pub ended: Option<Result<(), Fault>>,
    /// Since when the system of record has been failing, and its last fault.
    pub records: Option<(Time, Fault)>,
    /// Since when nearly all chunks have been refused and are therefore held, and why.
    pub held: Option<(Time, Fault)>,
    /// That so many events wait until they can be merged that nothing more is read from the bus, with the remedy.
    pub waiting_full: Option<String>,
    /// Since when the clock of this process has differed from the bus's by more than the clock bound: merging waits.
    pub clock: Option<(Time, Fault)>,
    /// An entry whose id lies ahead of the bus's clock, and that clock.
    pub entry_ahead: Option<(EntryId, Time)>,
    /// The condition of each store except the system of record.
    pub stores: Vec<(Target, Condition)>,
    /// What the operator must know of the bus.
    pub bus: BusCondition,
    /// What has been done since the start.
    pub done: Done,
}

impl Health {
    /// Whether this process does its work. An active process carries events: the log is replayed, the worker runs, the
    /// system of record answers, the breaker does not hold, and the table of waiting events is not full. A process that
    /// stands by for another one is ready to take over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let reads = self.held.is_none() && self.waiting_full.is_none() && self.clock.is_none();
        let carries = self.recovered.is_some() && self.records.is_none() && reads;
        self.ended.is_none() && (carries || self.stands_by())
    }

    /// The warning about an entry whose id lies ahead of the bus's clock, with the remedy; `None` without such an entry.
    #[must_use]
    pub fn entry_warning(&self) -> Option<String> {
        self.entry_ahead.map(|(id, clock)| ahead_message(id, clock))
    }

    /// Whether another process holds the lease and renews it.
    #[must_use]
    pub fn stands_by(&self) -> bool {
        matches!(&self.role, Role::Standby { holder } if !holder.is_empty())
    }
}
