//! The engine's `Bus` port on Redis Streams: `XADD`, reading, `XACK`, the depth, and trimming of finished entries.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusCondition, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, Handover, Letter,
};
use chunk_sync_model::{Event, Time};
use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::answer;
use super::command::add_command;
use super::fault::Error;
use super::scripts::RECOUNT;
use super::{RedisBus, Shared, dead, erase};
use crate::backlog::Backlog;

const PREPARE: &str = "redis bus: prepare";
const PUBLISH: &str = "redis bus: publish";
const READ: &str = "redis bus: read";
const FINISHED: &str = "redis bus: acknowledge";
const DEAD: &str = "redis bus: dead letters";
const WAITS: &str = "redis bus: depth";

/// Upper bounds of one pipeline: number of events, and bytes of their fields.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// How long the size of an entry is used that was measured once.
const ENTRY_BYTES_KNOWN: Duration = Duration::from_secs(1);

/// Interval at which a publisher without room reads the depth.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

#[async_trait]
impl Bus for RedisBus {
    async fn prepare(&self) -> Result<(), Fault> {
        // Queried first: a server whose memory is full refuses `XGROUP CREATE` even if the group exists.
        match self.has_group().await? {
            true => Ok(()),
            false => self.shared.make_group().await.map_err(|error| error.into_fault(PREPARE)),
        }
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        let begun = self.reader.lock().await.begin(&self.shared, handover).await;
        begun.map_err(|error| error.into_fault(READ))
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        let mut ids = Vec::with_capacity(events.len());
        let mut rest = events;
        while !rest.is_empty() {
            self.room().await?;
            let (pipeline, count) = self.shared.additions(rest);
            let added = self.shared.add(&pipeline, count).await.map_err(|error| error.into_fault(PUBLISH))?;
            ids.extend(added);
            rest = &rest[count..];
        }
        Ok(ids)
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        // Another call may be reading. The next read returns the entries that it leaves.
        let Ok(mut reader) = timeout_at(deadline, self.reader.lock()).await else {
            return Ok(Vec::new());
        };
        reader.read(&self.shared, max.max(1), deadline).await.map_err(|error| error.into_fault(READ))
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.shared.finish(ids).await.map_err(|error| error.into_fault(FINISHED))
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        let (keys, streams) = (&self.shared.keys, [&*self.shared.keys.stream]);
        let set = self.shared.connection.script::<()>(&RECOUNT, &streams, |command| {
            command.arg(&keys.group).arg(id.to_string()).arg(attempt);
        });
        set.await.map_err(|error| error.into_fault("redis bus: recount"))
    }

    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault> {
        erase::erase(&self.shared, chunk, mode).await.map_err(|error| error.into_fault("redis bus: erase"))
    }

    async fn now(&self) -> Result<Time, Fault> {
        let time = async { answer::time(self.shared.connection.query(&redis::cmd("TIME")).await?) };
        time.await.map_err(|error: Error| error.into_fault("redis bus: time"))
    }

    async fn epoch(&self) -> Result<String, Fault> {
        self.shared.epoch().await.map_err(|error| error.into_fault(WAITS))
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.shared.depth().await.map_err(|error| error.into_fault(WAITS))
    }

    async fn trim(&self) -> Result<u64, Fault> {
        self.shared.trim().await.map_err(|error| error.into_fault("redis bus: trim"))
    }

    async fn condition(&self) -> Result<BusCondition, Fault> {
        let warnings = self.shared.warnings().await.map_err(|error| error.into_fault("redis bus: condition"))?;
        Ok(BusCondition { lost: self.lost(), warnings })
    }
}

#[async_trait]
impl DeadLetters for RedisBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        dead::dead_letter(&self.shared, letters).await.map_err(|error| error.into_fault(DEAD))
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        dead::letters(&self.shared, after, limit).await.map_err(|error| error.into_fault(DEAD))
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        self.shared.memory(&self.shared.keys.dead).await.map_err(|error| error.into_fault(DEAD))
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        dead::remove(&self.shared, id).await.map_err(|error| error.into_fault(DEAD))
    }
}

impl RedisBus {
    /// Whether the server has the group of workers; warns of settings with which it may lose events.
    pub(super) async fn has_group(&self) -> Result<bool, Fault> {
        let fault = |error: Error| error.into_fault(PREPARE);
        let facts: String = self.shared.connection.query(&redis::cmd("INFO")).await.map_err(fault)?;
        let keys = &self.shared.keys;
        super::config::check_server(&facts, &keys.stream, &keys.dead)?
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        Ok(self.shared.group().await.map_err(fault)?.is_some())
    }

    /// Waits until the bus has room. Uses the backlog measured with the last publication, which saves a query.
    async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + self.room_wait;
        let mut entries = self.shared.backlog.load(Ordering::Relaxed);
        loop {
            if entries >= self.max_backlog.entries {
                entries = self.shared.entries().await.map_err(|error| error.into_fault(PUBLISH))?;
            }
            let backlog = Backlog { entries, bytes: self.bytes(entries).await? };
            if self.max_backlog.has_room(backlog) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.max_backlog.busy(backlog, PUBLISH));
            }
            sleep(ROOM_PAUSE).await;
            entries = u64::MAX;
        }
    }

    /// About the bytes of that many entries; 0 if they cannot exceed the bound.
    async fn bytes(&self, entries: u64) -> Result<u64, Fault> {
        if entries.saturating_mul(self.shared.keys.entry_max_bytes as u64) <= self.max_backlog.bytes {
            return Ok(0);
        }
        let bytes = self.shared.entry_bytes().await.map_err(|error| error.into_fault(PUBLISH))?;
        Ok(entries.saturating_mul(bytes))
    }
}

impl Shared {
    /// Unread plus pending entries.
    async fn entries(&self) -> Result<u64, Error> {
        let depth = self.depth().await?;
        Ok(depth.unread + depth.pending)
    }

    /// About how many bytes an entry of the stream has, finished or not; 0 if the server does not state it. No older than
    /// [`ENTRY_BYTES_KNOWN`].
    async fn entry_bytes(&self) -> Result<u64, Error> {
        let known = *self.entry_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = known.filter(|(at, _)| at.elapsed() < ENTRY_BYTES_KNOWN) {
            return Ok(bytes);
        }
        let length: u64 = self.connection.query(redis::cmd("XLEN").arg(&self.keys.stream)).await?;
        let bytes = self.memory(&self.keys.stream).await?.unwrap_or_default() / length.max(1);
        *self.entry_bytes.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), bytes));
        Ok(bytes)
    }

    /// The bytes of memory that a stream has; `None` if the server does not state it: it has no such command, or the user no
    /// right to it.
    async fn memory(&self, stream: &str) -> Result<Option<u64>, Error> {
        // Every node of the stream is looked at, not its entries: with 100,000 nodes that takes some milliseconds.
        let asked = self.connection.query(redis::cmd("MEMORY").arg("USAGE").arg(stream).arg("SAMPLES").arg(0)).await;
        match asked {
            Ok(bytes) => Ok(Some(Option::<u64>::unwrap_or_default(bytes))),
            Err(error) if error.is_of_connection() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The `XADD` commands of the first events and the number of these events. The last command of the pipeline reads the
    /// backlog that results.
    fn additions(&self, events: &[Event]) -> (Pipeline, usize) {
        let (mut pipeline, mut count, mut bytes) = (redis::pipe(), 0, 0);
        for event in events.iter().take(BATCH) {
            let fields = event.to_fields();
            bytes += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            pipeline.add_command(add_command(&self.keys.stream, &fields));
            count += 1;
        }
        pipeline.cmd("XINFO").arg("GROUPS").arg(&self.keys.stream);
        (pipeline, count)
    }

    async fn add(&self, pipeline: &Pipeline, count: usize) -> Result<Vec<EntryId>, Error> {
        let mut answers: Vec<Value> = self.connection.pipeline(pipeline).await?;
        let groups = answers.pop().ok_or(Error::Answer("a command of the pipeline has no answer"))?;
        if let Some(group) = answer::group(groups, &self.keys.group)? {
            // If it is unknown, the next publication counts it first.
            self.backlog.store(group.lag.map_or(u64::MAX, |lag| lag + group.pending), Ordering::Relaxed);
        }
        let ids: Vec<_> = answers.into_iter().map(answer::entry_id).collect::<Result<_, _>>()?;
        if ids.len() == count { Ok(ids) } else { Err(Error::Answer("not one id per event")) }
    }

    /// Acknowledges the entries and removes them from those in hand.
    pub(super) async fn finish(&self, ids: &[EntryId]) -> Result<(), Error> {
        for part in ids.chunks(BATCH) {
            let mut command = redis::cmd("XACK");
            command.arg(&self.keys.stream).arg(&self.keys.group);
            for id in part {
                command.arg(id.to_string());
            }
            self.connection.query::<u64>(&command).await?;
            let mut in_hand = self.in_hand();
            for id in part {
                in_hand.remove(id);
            }
        }
        Ok(())
    }
}
