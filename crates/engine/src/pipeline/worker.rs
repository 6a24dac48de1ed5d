//! The worker's loop: batch → log → merge → store writers → complete. Each turn handles one event, the most urgent first.
//! It runs while this process holds the lease. When the term is over, the loop and all tasks that it started are
//! dropped: nothing is acknowledged, completed or dead-lettered any more, and the bus hands out what was under way to
//! the next holder.
//!
//! Per-chunk order: batches are merged one after the other, each in the order of the stream, and a store writer keeps
//! the order of the writes that it receives. The writes of several batches may be under way to the stores at once.
//!
//! What a crash does, step by step:
//! - before the log has the batch: nothing happened, the bus hands out the entries again;
//! - between log and merge, merge and store writers, store writers and completion: the log replays the batch; the
//!   repeated merge changes nothing, and every store that has the state skips the write;
//! - between completion and acknowledgement: the bus hands out the entries again, with the same harmless result;
//! - while an operation is set aside: `ports/waiting.rs` has the table.
//!
//! With a bus whose entries are finished by the merge ([`FinishedBy::Merge`]) nothing is logged, and a crash does this:
//! - before the merge commits: nothing happened; the entries are on the bus and are handed out again;
//! - after it: the entries are gone, and the outbox, written in the same transaction, has what every store misses. The
//!   next process drains it; no event is needed any more;
//! - between the commit and its answer: the merge is repeated, changes nothing, and finishes entries that are gone
//!   already; the stores are sent the same versions once more;
//! - between a store's answer and the removal from the outbox: the outbox sends that write once more, and its version
//!   guards it;
//! - between a dead letter and the removal of the write that the store refused: the letter exists, and the write stays
//!   in the outbox until its chunk changes. Before the letter: only the write is left, and the store refuses it again;
//! - while an operation is set aside: `ports/waiting.rs` has the table.
//!
//! What cannot be merged now is set aside (`waiting.rs`) and carried later, before later events of its chunk. What a
//! store refuses is known only after later batches were merged, so there a later event of the chunk may be merged
//! first. The same happens to an event that is dead-lettered and published again: a late event changes only what its
//! writer has not changed since.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::{SyncVersion, Target};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tracing::info;

use crate::pipeline::breakers::Breakers;
use crate::pipeline::carried::{Answer, Carried};
use crate::pipeline::clocks::Clocks;
use crate::pipeline::consumer;
use crate::pipeline::given_up::GivenUp;
use crate::pipeline::in_flight::InFlight;
use crate::pipeline::log::Log;
use crate::pipeline::merge_size::MergeSize;
use crate::pipeline::store_writer::StoreWriter;
use crate::pipeline::suspects::{self, Accusation};
use crate::pipeline::waiting_room::WaitingRoom;
use crate::ports::{Bus, Delivery, Fault, FaultClass, Fence, Records, WaitingEvents};
use crate::runtime::clock::Clock;
use crate::runtime::progress::{Progress, Stop};
use crate::runtime::settings::Settings;
use crate::runtime::term::Term;

/// The worker of one term, with everything it uses.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) waiting: Arc<dyn WaitingEvents>,
    pub(crate) store_writers: Vec<StoreWriter>,
    /// The stores of the installation, the system of record first.
    pub(crate) targets: Arc<[Target]>,
    /// The condition under which the system of record accepts a merge of this term.
    pub(crate) fence: Fence,
    /// The least sync version that is assigned.
    pub(crate) floor: SyncVersion,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) given_up: Arc<GivenUp>,
    pub(crate) carried: Arc<Carried>,
    /// Held from a merge until its writes are with the store writers: writes are sent in the order of the merges, also
    /// those of a held batch that is carried again beside newer ones.
    pub(crate) turn: Arc<Mutex<MergeSize>>,
    pub(crate) clocks: Clocks,
    /// The epoch of the bus when this term began.
    pub(crate) epoch: Arc<str>,
    pub(crate) term: Term,
    pub(crate) stop: Stop,
}

/// The event that the loop handles next.
enum Turn {
    Stop,
    Rechecked(Result<(), Fault>),
    Delivered(Vec<Delivery>),
    /// It is time to ask the bus which of the carried log lines it has finished.
    Ask,
}

/// Why a worker ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// It was stopped.
    Stopped,
    /// The bus lost entries that the log still has as pending: the log must be replayed.
    BusLost,
}

/// How often the worker asks the bus which of the carried log lines it has finished.
const ASK: Duration = Duration::from_secs(1);

impl Worker {
    /// Carries events until a stop is requested, then finishes what is under way. A fault ends it at once: what was
    /// under way is in the log, or on the bus and in the outbox where the merge finishes entries.
    pub(crate) async fn run(self) -> Result<Run, Fault> {
        let (sender, mut deliveries) = mpsc::channel(1);
        // Aborted on drop: an interrupted read loses nothing.
        let mut reader = JoinSet::new();
        reader.spawn(consumer::read(Arc::clone(&self.bus), self.settings.clone(), self.stop.clone(), sender));
        let (mut under_way, mut accusation) = (JoinSet::new(), Accusation::default());
        let in_flight = InFlight::new(&self.settings.worker);
        let mut draining = JoinSet::new();
        draining.spawn(self.clone().drain_waiting());
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let result = loop {
            let turn = tokio::select! {
                biased;
                () = self.stop.requested() => Turn::Stop,
                Some(ended) = under_way.join_next() => Turn::Rechecked(joined(ended)),
                Some(drained) = draining.join_next() => Turn::Rechecked(joined(drained)),
                _ = ask.tick(), if !self.carried.is_empty() => Turn::Ask,
                Some(batch) = consumer::next(&mut deliveries, &in_flight, (&self.room, &self.breakers)) => Turn::Delivered(batch),
            };
            match turn {
                Turn::Stop => break Ok(Run::Stopped),
                Turn::Rechecked(Ok(())) => {}
                Turn::Rechecked(Err(fault)) => break Err(fault),
                Turn::Ask => match self.ask_the_bus().await {
                    Ok(Answer::Kept | Answer::Unknown) => {}
                    Ok(Answer::Lost) => break Ok(Run::BusLost),
                    Err(fault) => break Err(fault),
                },
                Turn::Delivered(batch) => match self.begin(batch, &in_flight, &mut under_way, &mut accusation).await {
                    Ok(true) => {}
                    Ok(false) => break Ok(Run::BusLost),
                    Err(fault) => break Err(fault),
                },
            }
        };
        drop(reader);
        let run = result?;
        self.finish(under_way).await?;
        match run {
            Run::Stopped => self.finish(draining).await?,
            // What it was carrying is still among the waiting events.
            Run::BusLost => {
                drop(draining);
                self.progress.dropped();
            }
        }
        Ok(run)
    }

    /// Takes the deliveries, each suspect alone, and completes them concurrently with what is under way. False, with
    /// nothing taken, if the bus has lost entries that the log has: they come first.
    async fn begin(
        &self,
        deliveries: Vec<Delivery>,
        in_flight: &InFlight,
        under_way: &mut JoinSet<Result<(), Fault>>,
        accusation: &mut Accusation,
    ) -> Result<bool, Fault> {
        if !self.keeps_carried().await? {
            return Ok(false);
        }
        let max = self.settings.worker.max_deliveries;
        for run in suspects::runs(deliveries, max).into_iter().flat_map(consumer::cut_by_bytes) {
            // A stop may have kept events of the last run from being set aside: later ones must not be set aside before.
            if self.stop.is_requested() || !self.term.holds() {
                return Ok(true);
            }
            let suspect = run.iter().find(|delivery| suspects::is_suspect(delivery, max));
            if let Some(suspect) = suspect {
                self.wait_for(under_way).await?;
                if accusation.doubts(suspect, max) && !self.delay(suspect).await? {
                    return Ok(true);
                }
                accusation.hold(self.clone().acquit(suspect.id));
            }
            let alone = suspect.is_some();
            let mut operations = self.take(run, accusation).await?;
            while !operations.is_empty() && self.stop.during(in_flight.room()).await.is_some() {
                let carried = self.carry(operations).await?;
                operations = carried.rest;
                let Some(batch) = carried.batch else { continue };
                let (worker, slot) = (self.clone(), in_flight.enter(&batch.operations, &batch.writes));
                under_way.spawn(async move {
                    let ended = worker.complete(batch).await;
                    drop(slot);
                    ended
                });
            }
            if alone {
                self.wait_for(under_way).await?;
            }
        }
        Ok(true)
    }

    /// Waits until everything under way has ended, or has run too long to be what kills the process.
    async fn wait_for(&self, under_way: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
        let ended = async {
            while let Some(ended) = under_way.join_next().await {
                joined(ended)?;
            }
            Ok(())
        };
        match self.stop.during(tokio::time::timeout(self.settings.worker.deadly_within, ended)).await {
            Some(Ok(ended)) => ended,
            None | Some(Err(_)) => Ok(()),
        }
    }

    async fn finish(&self, mut under_way: JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
        if !under_way.is_empty() {
            info!(batches = under_way.len(), "stopping; finishing the batches under way");
        }
        while let Some(ended) = under_way.join_next().await {
            joined(ended)?;
        }
        Ok(())
    }
}

fn joined(ended: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    ended.unwrap_or_else(|error| Err(Fault::new(FaultClass::Corrupt, "complete", error)))
}
