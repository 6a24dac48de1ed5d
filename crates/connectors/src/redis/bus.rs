//! The engine's `Bus` port on Redis Streams: `XADD`, reading, `XACK`, the depth, and trimming of finished entries.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusCondition, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FaultClass,
    Handover, Letter,
};
use chunk_sync_model::{Event, Time};
use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::answer;
use super::command::add_command;
use super::fault::Error;
use super::{RedisBus, Shared, dead, erase};

const PREPARE: &str = "redis bus: prepare";
const PUBLISH: &str = "redis bus: publish";
const READ: &str = "redis bus: read";
const FINISHED: &str = "redis bus: acknowledge";
const DEAD: &str = "redis bus: dead letters";
const WAITS: &str = "redis bus: depth";

/// Upper bounds of one pipeline: number of events, and bytes of their fields.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

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
        let mut backlog = self.shared.backlog.load(Ordering::Relaxed);
        while backlog >= self.max_backlog {
            let depth = self.shared.depth().await.map_err(|error| error.into_fault(PUBLISH))?;
            backlog = depth.unread + depth.pending;
            if backlog < self.max_backlog {
                break;
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "{backlog} events wait on the bus, the limit is {}; let `chunk-sync run` process them first",
                    self.max_backlog
                );
                return Err(Fault::new(FaultClass::Busy, PUBLISH, message));
            }
            sleep(ROOM_PAUSE).await;
        }
        Ok(())
    }
}

impl Shared {
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
