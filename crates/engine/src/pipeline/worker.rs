//! The worker's loop: batch → log → merge → store writers → settle. Each turn handles one event, the most urgent first.
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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_model::{SyncVersion, Target};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::pipeline::apply::direct_write::{self, StoreSnapshots};
use crate::pipeline::apply::external_change::Written;
use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
use crate::pipeline::apply::{MergeEnd, Refused, merge_all};
use crate::pipeline::breaker::Breaker;
use crate::pipeline::carried::Carried;
use crate::pipeline::clocks::Clocks;
use crate::pipeline::completion::{Batch, Completion, HeldBack};
use crate::pipeline::envelope::{self, Operation, Refusal};
use crate::pipeline::given_up::GivenUp;
use crate::pipeline::in_flight::InFlight;
use crate::pipeline::log::{Ending, Log};
use crate::pipeline::resolutions;
use crate::pipeline::store_writer::StoreWriter;
use crate::pipeline::suspects::{self, Accusation, DEADLY_WITHIN};
use crate::pipeline::waiting_room::WaitingRoom;
use crate::ports::{
    Bus, DeadLetter, Delivery, EntryId, Fault, FaultClass, Fence, FinishedBy, Policy, Records, WaitReason,
    WaitingEvents,
};
use crate::runtime::catch_panic::catch_panic;
use crate::runtime::clock::Clock;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::lease::Term;
use crate::runtime::metrics;
use crate::runtime::progress::{Progress, Stop};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::Settings;

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
    pub(crate) breaker: Arc<Breaker>,
    /// Judges what a setting or the clock refuses.
    pub(crate) admission: Arc<Breaker>,
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) given_up: Arc<GivenUp>,
    pub(crate) carried: Arc<Carried>,
    /// Held from a merge until its writes are with the store writers: writes are sent in the order of the merges, also
    /// those of a held batch that is carried again beside newer ones.
    pub(crate) turn: Arc<Mutex<()>>,
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

/// The result of merging a batch; operations are named by their index.
#[derive(Default)]
struct Merged {
    outcome: Outcome,
    /// Operations that the system of record refuses.
    refused: Vec<(usize, Fault)>,
    /// Operations whose rows are locked or lack a parent row, or whose merge takes too long.
    locked: Vec<(usize, Fault)>,
}

impl Merged {
    /// Notes the operations that cannot be merged; the others of the part are open again.
    fn refuse(&mut self, part: &[usize], open: &mut Vec<Vec<usize>>, refused: Vec<Refused>) {
        let places: BTreeSet<usize> = refused.iter().map(|refused| refused.place).collect();
        self.refused.extend(refused.into_iter().map(|refused| (part[refused.place], refused.fault)));
        let rest = part.iter().enumerate().filter(|(place, _)| !places.contains(place));
        let rest: Vec<usize> = rest.map(|(_, operation)| *operation).collect();
        if !rest.is_empty() {
            open.push(rest);
        }
    }

    /// Notes that the operations of one chunk are locked, with those of the chunk that are still open: they come later.
    fn lock(&mut self, part: &[usize], open: &mut Vec<Vec<usize>>, operations: &[Operation], fault: &Fault) {
        let chunk = |i: usize| operations[i].event.chunk_id();
        let Some(locked) = part.first().map(|i| chunk(*i)) else { return };
        let later = open.iter().flatten().copied().filter(|i| chunk(*i) == locked);
        let all: Vec<usize> = part.iter().copied().chain(later).collect();
        open.iter_mut().for_each(|part| part.retain(|i| chunk(*i) != locked));
        open.retain(|part| !part.is_empty());
        self.locked.extend(all.into_iter().map(|i| (i, fault.clone())));
    }
}

/// How long an operation is retried whose row refers to a row of another table that does not exist yet.
const PARENT_PATIENCE: Duration = Duration::from_secs(5);

/// How often the worker asks the bus which of the carried log lines it has finished.
const ASK: Duration = Duration::from_secs(1);

impl Worker {
    /// Carries events until a stop is requested, then finishes what is under way. A fault ends it at once: what was
    /// under way is in the log, or on the bus and in the outbox where the merge finishes entries.
    pub(crate) async fn run(self) -> Result<Run, Fault> {
        let (sender, mut deliveries) = mpsc::channel(1);
        // Aborted on drop: an interrupted read loses nothing.
        let mut reader = JoinSet::new();
        reader.spawn(read(Arc::clone(&self.bus), self.settings.clone(), self.stop.clone(), sender));
        let (mut under_way, mut accusation) = (JoinSet::new(), Accusation::default());
        let in_flight = InFlight::new(&self.settings.worker);
        let mut draining = JoinSet::new();
        draining.spawn(self.clone().drain_waiting());
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        let result = loop {
            let turn = tokio::select! {
                biased;
                () = stop.requested() => Turn::Stop,
                Some(settled) = under_way.join_next() => Turn::Rechecked(joined(settled)),
                Some(drained) = draining.join_next() => Turn::Rechecked(joined(drained)),
                _ = ask.tick(), if !self.carried.is_empty() => Turn::Ask,
                Some(batch) = next(&mut deliveries, &in_flight) => Turn::Delivered(batch),
            };
            match turn {
                Turn::Stop => break Ok(Run::Stopped),
                Turn::Rechecked(Ok(())) => {}
                Turn::Rechecked(Err(fault)) => break Err(fault),
                Turn::Ask => match self.ask_the_bus().await {
                    Ok(true) => {}
                    Ok(false) => break Ok(Run::BusLost),
                    Err(fault) => break Err(fault),
                },
                Turn::Delivered(batch) => match self.begin(batch, &in_flight, &mut under_way, &mut accusation).await {
                    Ok(()) => {}
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

    /// Takes the deliveries, each suspect alone, and settles them concurrently with what is under way.
    async fn begin(
        &self,
        deliveries: Vec<Delivery>,
        in_flight: &InFlight,
        under_way: &mut JoinSet<Result<(), Fault>>,
        accusation: &mut Accusation,
    ) -> Result<(), Fault> {
        let max = self.settings.worker.max_deliveries;
        for run in suspects::runs(deliveries, max).into_iter().flat_map(cut_by_bytes) {
            // A stop may have kept events of the last run from being set aside: later ones must not be set aside before.
            if self.stop.is_requested() || !self.term.holds() {
                return Ok(());
            }
            let alone = run.iter().any(|delivery| suspects::is_suspect(delivery, max));
            if alone {
                self.wait_for(under_way).await?;
            }
            if let Some(batch) = self.take(run, accusation).await? {
                let (worker, slot) = (self.clone(), in_flight.enter(&batch.operations, &batch.writes));
                under_way.spawn(async move {
                    let settled = worker.settle(batch).await;
                    drop(slot);
                    settled
                });
            }
            if alone {
                self.wait_for(under_way).await?;
            }
        }
        Ok(())
    }

    /// Waits until everything under way has ended, or has run too long to be what kills the process.
    async fn wait_for(&self, under_way: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
        let ended = async {
            while let Some(settled) = under_way.join_next().await {
                joined(settled)?;
            }
            Ok(())
        };
        match self.stop.during(tokio::time::timeout(DEADLY_WITHIN, ended)).await {
            Some(Ok(ended)) => ended,
            None | Some(Err(_)) => Ok(()),
        }
    }

    /// Completes in the log those carried lines whose entries the bus has finished; false if the bus is in another
    /// epoch by now and cannot answer for them.
    pub(crate) async fn ask_the_bus(&self) -> Result<bool, Fault> {
        if self.carried.is_empty() {
            return Ok(true);
        }
        let asked = async {
            let oldest = self.bus.depth().await?.oldest;
            // Asked after the depth: if the epoch is still the same, the bus has finished every entry that it no longer
            // has.
            Ok::<_, Fault>((oldest, self.bus.epoch().await? == *self.epoch))
        };
        match asked.await {
            Ok((oldest, true)) => self.complete_carried(self.carried.finished(oldest)).await.map(|()| true),
            Ok((_, false)) => Ok(false),
            // The worker asks again soon: the lines stay pending.
            Err(_) => Ok(true),
        }
    }

    async fn complete_carried(&self, lines: Vec<String>) -> Result<(), Fault> {
        if lines.is_empty() {
            return Ok(());
        }
        let endings: Vec<Ending<'_>> = lines.iter().map(|line| Ending { operation: line, error: None }).collect();
        self.log.complete(&endings).await
    }

    /// From delivery to the store writers. `None` if nothing is left to settle, or the worker was stopped first.
    async fn take(&self, deliveries: Vec<Delivery>, accusation: &mut Accusation) -> Result<Option<Batch>, Fault> {
        failpoint::reached(CrashPoint::Read);
        self.clocks.examine(&deliveries);
        let now = self.clock.now();
        let (mut read, mut letters) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            let fatal = accusation.of(&delivery, self.settings.worker.max_deliveries);
            match Operation::of(delivery, &self.settings.limits, now) {
                Ok(operation) if fatal => {
                    let fault = envelope::fatal(operation.tries - 1);
                    letters.push(operation.letter(&fault, &self.targets, now));
                }
                Ok(operation) => read.push(Ok(operation.within(&self.targets))),
                Err(refusal) => read.push(Err(refusal)),
            }
        }
        let read = self.without_forged(read, &mut letters).await;
        let completion = self.completion();
        completion.dead_letter(&letters).await?;
        let Some(operations) = self.admit(read).await? else { return Ok(None) };
        let (mut operations, known): (Vec<_>, Vec<_>) = operations.into_iter().partition(|o| !self.given_up.awaited(o));
        let known: Vec<EntryId> = known.iter().filter_map(|o| Some(o.entry.as_ref()?.id)).collect();
        completion.acknowledge(&known).await?;
        self.progress.took(&operations);
        if operations.is_empty() {
            return Ok(None);
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            let started = Instant::now();
            let refused = self.log.append(&operations, &self.epoch, &self.stop).await?;
            operations = self.refuse_too_long(operations, refused).await?;
            self.complete_carried(self.carried.superseded(&operations)).await?;
            metrics::took(metrics::Operation::Wal, started);
            failpoint::reached(CrashPoint::Logged);
            if operations.is_empty() {
                return Ok(None);
            }
        }
        self.carry(operations).await
    }

    /// Dead-letters the operations that are too long for the log, by index, and returns the others.
    async fn refuse_too_long(
        &self,
        operations: Vec<Operation>,
        refused: Vec<(usize, Fault)>,
    ) -> Result<Vec<Operation>, Fault> {
        let mut refused: BTreeMap<usize, Fault> = refused.into_iter().collect();
        let (mut kept, mut long, mut letters) = (Vec::with_capacity(operations.len()), Vec::new(), Vec::new());
        for (i, operation) in operations.into_iter().enumerate() {
            match refused.remove(&i) {
                Some(fault) => {
                    letters.push(operation.letter(&fault, &self.targets, self.clock.now()));
                    long.push(operation);
                }
                None => kept.push(operation),
            }
        }
        self.completion().dead_letter(&letters).await?;
        self.progress.settled(&long);
        Ok(kept)
    }

    /// Without the events by `operator` that resolve no recorded conflict: those become dead letters. Retries until the
    /// record of conflicts can be read; if the worker is stopped first, the bus hands out the rest again.
    async fn without_forged(
        &self,
        read: Vec<Result<Operation, Box<Refusal>>>,
        letters: &mut Vec<DeadLetter>,
    ) -> Vec<Result<Operation, Box<Refusal>>> {
        let (mut kept, mut pauses) = (Vec::with_capacity(read.len()), Pauses::new(&self.settings.worker));
        for read in read {
            let refusal = loop {
                let Ok(operation) = &read else { break None };
                match resolutions::refusal(&*self.records, &operation.event).await {
                    Ok(refusal) => break refusal,
                    Err(fault) => self.progress.records_failed(&fault),
                }
                if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                    return kept;
                }
            };
            match (read, refusal) {
                (Ok(operation), Some(fault)) => letters.push(operation.letter(&fault, &self.targets, self.clock.now())),
                (read, _) => kept.push(read),
            }
        }
        kept
    }

    /// From durable to the store writers: replayed operations take this path as well.
    pub(crate) async fn carry(&self, operations: Vec<Operation>) -> Result<Option<Batch>, Fault> {
        let _turn = self.turn.lock().await;
        if self.clocks.agree().await.is_none() {
            return Ok(None);
        }
        // Read once: the merge puts the writes of a store that is behind into the outbox, and every other store gets
        // them directly, whatever happens to it during the merge. With a second reading a store might get them neither
        // way.
        let behind = self.behind();
        let direct: Vec<&StoreWriter> =
            self.store_writers.iter().filter(|store_writer| !behind.contains(&store_writer.target())).collect();
        // If only the merged row has the event, the outbox must have the writes of every store.
        let enqueued = self.bus.finished_by() == FinishedBy::Merge;
        let outbox =
            if enqueued { self.store_writers.iter().map(StoreWriter::target).collect() } else { behind.clone() };
        // Before the merge: from its commit on, a later merge may put a newer write of these chunks into the outbox.
        let ids: Vec<_> = operations.iter().map(|operation| operation.event.chunk_id()).collect();
        let claims = direct.iter().map(|store_writer| store_writer.claim(ids.clone())).collect();
        let Some(Merged { outcome, refused, locked }) = self.merge(&operations, &outbox).await? else {
            return Ok(None);
        };
        self.count(&outcome);
        failpoint::reached(CrashPoint::Merged);
        let writes: Arc<[_]> = outcome.writes.into();
        let mut answers = Vec::with_capacity(direct.len());
        for store_writer in direct.into_iter().filter(|_| !writes.is_empty()) {
            answers.push((store_writer.target(), store_writer.send(Arc::clone(&writes), enqueued)));
        }
        let (operations, refused) = self.set_locked_aside(operations, refused, locked).await?;
        Ok((!operations.is_empty()).then_some(Batch { operations, writes, answers, refused, enqueued, claims }))
    }

    /// Sets the operations aside, by index, whose rows are locked or lack a parent row. Returns the others, and the refused ones by their new
    /// indices.
    async fn set_locked_aside(
        &self,
        operations: Vec<Operation>,
        refused: Vec<(usize, Fault)>,
        locked: Vec<(usize, Fault)>,
    ) -> Result<(Vec<Operation>, Vec<(usize, Fault)>), Fault> {
        let Some((_, last)) = locked.last() else { return Ok((operations, refused)) };
        let error = last.to_string();
        let (locked, mut refused): (BTreeSet<usize>, BTreeMap<usize, Fault>) =
            (locked.iter().map(|(i, _)| *i).collect(), refused.into_iter().collect());
        let (mut kept, mut postponed, mut still_refused) = (Vec::new(), Vec::new(), Vec::new());
        for (i, operation) in operations.into_iter().enumerate() {
            if locked.contains(&i) {
                postponed.push(operation);
                continue;
            }
            still_refused.extend(refused.remove(&i).map(|fault| (kept.len(), fault)));
            kept.push(operation);
        }
        // If the worker is stopped before they are set aside, they are where they were read from.
        self.set_aside(postponed, WaitReason::Locked, &error).await?;
        Ok((kept, still_refused))
    }

    /// From the store writers to settled. Operations that the breaker holds are set aside.
    pub(crate) async fn settle(self, batch: Batch) -> Result<(), Fault> {
        let HeldBack { operations, error } = self.completion().settle(batch).await?;
        if !operations.is_empty() {
            self.set_aside(operations, WaitReason::Refused, &error).await?;
        }
        Ok(())
    }

    /// Merges, and retries until the system of record answers. The writes that the stores in `behind` miss go into the
    /// outbox. A refused batch is halved until the refused operation is found; a batch that meets a lock or a time limit
    /// is halved until the chunk is found. `None` if the worker was stopped or the term ended first.
    async fn merge(&self, operations: &[Operation], behind: &[Target]) -> Result<Option<Merged>, Fault> {
        let mut merged = Merged::default();
        let mut open = vec![(0..operations.len()).collect::<Vec<_>>()];
        let mut again = false;
        let mut pauses = Pauses::new(&self.settings.worker);
        while let Some(part) = open.pop() {
            let batch: Vec<&Operation> = part.iter().map(|i| &operations[*i]).collect();
            let now = Written { at: self.clock.now(), max_ahead: self.settings.limits.max_ahead_micros };
            let snapshots = self.look(&batch).await;
            if !self.term.holds() {
                return Ok(None);
            }
            let context = MergeContext {
                now,
                again,
                settings: &self.settings,
                snapshots: &snapshots,
                outbox: behind,
                floor: self.floor,
            };
            let merge = merge_all(&*self.records, &batch, &self.fence, self.bus.finished_by(), context);
            match catch_panic("merge", merge).await.flatten() {
                Ok(MergeEnd::Done(outcome)) => merged.outcome.join(outcome),
                Ok(MergeEnd::Refused(some)) => merged.refuse(&part, &mut open, some),
                Err(fault) => {
                    let policy = fault.policy();
                    if policy.retries() {
                        for operation in &batch {
                            metrics::failed(operation.source(), Target::Postgres, fault.class);
                        }
                        self.term.doubt();
                        again |= fault.class != FaultClass::Busy;
                    }
                    match policy {
                        Policy::Stop => return Err(fault),
                        Policy::RetryAlone => {
                            match halves(&part, operations) {
                                Some((first, second)) => open.extend([second, first]),
                                None => merged.lock(&part, &mut open, operations, &fault),
                            }
                            continue;
                        }
                        Policy::Wait => {
                            self.progress.records_failed(&fault);
                            warn!(%fault, "the system of record failed; retrying the merge");
                            open.push(part);
                            if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                                return Ok(None);
                            }
                            continue;
                        }
                        Policy::DeadLetter => match halves(&part, operations).or_else(|| halves_in_order(&part)) {
                            Some((first, second)) => open.extend([second, first]),
                            None if self.may_await_parent(&part, operations, &fault) => {
                                merged.lock(&part, &mut open, operations, &fault);
                            }
                            None => merged.refused.extend(part.into_iter().map(|i| (i, fault.clone()))),
                        },
                    }
                }
            }
            self.progress.records_answered();
        }
        Ok(Some(merged))
    }

    /// Whether the row that the operation refers to may still be added.
    fn may_await_parent(&self, part: &[usize], operations: &[Operation], fault: &Fault) -> bool {
        let waited = |i: &usize| self.room.lacks_parent(operations[*i].event.chunk_id());
        fault.awaits_parent && part.first().is_some_and(|i| waited(i) < PARENT_PATIENCE)
    }

    /// Reads the chunks from the stores that answer, to detect direct writes.
    async fn look(&self, batch: &[&Operation]) -> StoreSnapshots {
        let answers = |store_writer: &&StoreWriter| {
            store_writer.condition().failing.is_none() && !store_writer.condition().behind
        };
        let stores: Vec<_> = self.store_writers.iter().filter(answers).map(StoreWriter::store).collect();
        direct_write::look(&stores, batch, self.settings.direct.detect, self.settings.worker.patience).await
    }

    fn behind(&self) -> Vec<Target> {
        self.store_writers
            .iter()
            .filter(|store_writer| store_writer.condition().behind)
            .map(StoreWriter::target)
            .collect()
    }

    fn count(&self, outcome: &Outcome) {
        for _ in 0..outcome.repeated {
            metrics::repeated();
        }
        for writer in &outcome.direct {
            metrics::direct(*writer);
        }
        for count in &outcome.conflicts {
            metrics::conflict(count.kind, count.strategy, count.outcome);
        }
        self.progress.met(&outcome.conflicts);
    }

    pub(crate) fn completion(&self) -> Completion {
        Completion {
            bus: Arc::clone(&self.bus),
            targets: Arc::clone(&self.targets),
            records: Arc::clone(&self.records),
            waiting: Arc::clone(&self.waiting),
            log: self.log.clone(),
            clock: self.clock.clone(),
            settings: Arc::clone(&self.settings),
            progress: Arc::clone(&self.progress),
            breaker: Arc::clone(&self.breaker),
            given_up: Arc::clone(&self.given_up),
            room: Arc::clone(&self.room),
            term: self.term.clone(),
            stop: self.stop.clone(),
        }
    }

    async fn finish(&self, mut under_way: JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
        if !under_way.is_empty() {
            info!(batches = under_way.len(), "stopping; finishing the batches under way");
        }
        while let Some(settled) = under_way.join_next().await {
            joined(settled)?;
        }
        Ok(())
    }
}

/// The most bytes of fields that are carried together; a longer entry is carried alone.
const TOGETHER_BYTES: usize = 4 << 20;

/// Splits deliveries, in their order, so that the bytes of each group are bounded.
fn cut_by_bytes(deliveries: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let (mut groups, mut bytes): (Vec<Vec<Delivery>>, usize) = (Vec::new(), 0);
    for delivery in deliveries {
        let length = delivery.bytes();
        match groups.last_mut() {
            Some(group) if bytes + length <= TOGETHER_BYTES => group.push(delivery),
            _ => {
                bytes = 0;
                groups.push(vec![delivery]);
            }
        }
        bytes += length;
    }
    groups
}

/// Splits a refused batch in two without separating the operations of one chunk; `None` if they all belong to one
/// chunk.
fn halves(part: &[usize], operations: &[Operation]) -> Option<(Vec<usize>, Vec<usize>)> {
    let mut ids: Vec<_> = part.iter().map(|i| operations[*i].event.chunk_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let middle = *ids.get(ids.len() / 2).filter(|_| ids.len() > 1)?;
    Some(part.iter().partition(|i| operations[**i].event.chunk_id() < middle))
}

/// The next batch, once there is room for it.
async fn next(deliveries: &mut mpsc::Receiver<Vec<Delivery>>, in_flight: &InFlight) -> Option<Vec<Delivery>> {
    in_flight.room().await;
    deliveries.recv().await
}

/// Splits refused operations of one chunk in two, in their order; `None` for a single one.
fn halves_in_order(part: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let (first, second) = part.split_at(part.len() / 2);
    (!first.is_empty()).then(|| (first.to_vec(), second.to_vec()))
}

/// Keeps one batch ready. It has its own task, so that no other event interrupts a read.
async fn read(bus: Arc<dyn Bus>, settings: Arc<Settings>, stop: Stop, batches: mpsc::Sender<Vec<Delivery>>) {
    let mut pauses = Pauses::new(&settings.worker);
    while !stop.is_requested() {
        match bus.read(settings.worker.batch, settings.worker.wait).await {
            Ok(batch) => {
                pauses.reset();
                if !batch.is_empty() && batches.send(batch).await.is_err() {
                    return;
                }
            }
            // Whatever the fault: nothing was read, so nothing is lost by another attempt.
            Err(fault) => {
                warn!(%fault, "the bus failed; retrying");
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}

fn joined(settled: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    settled.unwrap_or_else(|error| Err(Fault::new(FaultClass::Corrupt, "settle", error)))
}
