//! Reading: one script returns the pending entries of other consumers and new entries; waiting is a plain `XREAD`.
//!
//! Each entry that the server delivered to a consumer name is known to this process, or it was in an answer that was lost or
//! no longer awaited. After each answer that did not arrive the reader therefore continues under a new consumer name. The
//! entries under the old name then belong to another consumer and are delivered again in stream order, except those in hand.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{DeadLetter, Delivery, EntryId, Handover};
use chunk_sync_engine::report_dead_letter;
use jiff::Timestamp;
use redis::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use uuid::Uuid;

use super::Shared;
use super::answer;
use super::dead;
use super::fault::Error;
use super::scripts::READ;

/// Longest duration of one wait. Bounds the time until the reader finds entries taken by a process that lost the lease.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Approximate limit of the bytes of fields that one read returns.
const MAX_BYTES: usize = 8 << 20;

/// State of the reader of this process.
#[derive(Default)]
pub(super) struct Reader {
    /// Number of times the reader took a new consumer name.
    renewals: u64,
    /// Whether every answer under the present name has arrived.
    sound: bool,
    /// The entries of the former consumer name are left over from the last read, not from another worker.
    left_over: bool,
    /// Claims of entries up to this one count as deliveries.
    count_to: Option<EntryId>,
    /// The last entry that the server ever delivered to the group.
    last: Option<EntryId>,
    /// The running wait; it may have been started by a call that was dropped.
    waiting: Option<JoinHandle<Result<(), Error>>>,
}

impl Reader {
    /// Starts to read for this process. Forgets the entries in hand, so that all pending entries are delivered again.
    pub(super) async fn begin(&mut self, shared: &Shared, handover: Handover) -> Result<(), Error> {
        self.sound = false;
        shared.in_hand().clear();
        let group = shared.group().await?;
        self.last = group.map(|group| group.last_delivered);
        self.count_to = self.last.filter(|_| handover == Handover::Silent);
        Ok(())
    }

    /// Returns up to `max` entries; waits until `deadline` for the first.
    pub(super) async fn read(
        &mut self,
        shared: &Arc<Shared>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Delivery>, Error> {
        loop {
            match self.fetch(shared, max).await {
                Ok(deliveries) if !deliveries.is_empty() => return Ok(deliveries),
                Ok(_) => {}
                Err(error) if error.is_no_group() => {
                    warn!(
                        group = shared.keys.group,
                        "the group of workers does not exist; creating it, to read the stream from its start"
                    );
                    shared.make_group().await?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait < Duration::from_millis(1) {
                return Ok(Vec::new());
            }
            self.wait(shared, wait.min(LONGEST_WAIT), deadline).await?;
        }
    }

    /// Returns the entries that are available now. No await follows the answer, so a dropped call has taken no entry.
    async fn fetch(&mut self, shared: &Shared, max: usize) -> Result<Vec<Delivery>, Error> {
        let keys = &shared.keys;
        if !std::mem::replace(&mut self.sound, false) {
            self.renewals += 1;
        }
        let consumer = format!("{}.{}", keys.consumer, self.renewals);
        // Counted once, even if the answer is lost: a count that is too low is better than a dead letter without cause.
        let count_to = self.count_to.take();
        let answer: Value = shared
            .connection
            .script_once(&READ, &[&*keys.stream, &*keys.dead, &*keys.notes], |command| {
                command.arg(&keys.group).arg(&consumer).arg(max).arg(MAX_BYTES);
                command.arg(count_to.map(|id| id.to_string()).unwrap_or_default());
                command.arg(keys.entry_max_bytes).arg(Uuid::new_v4().simple().to_string());
                for (name, value) in dead::reasons_of_long_entry(keys.entry_max_bytes) {
                    command.arg(name).arg(value);
                }
            })
            .await?;
        let read = answer::read(answer)?;
        if !read.claimed.is_empty() && !std::mem::take(&mut self.left_over) {
            info!(entries = read.claimed.len(), "claimed unfinished entries of another worker");
            self.count_to = count_to;
        }
        self.last = Some(read.last);
        // What was read and not returned belongs to this consumer name; under the next one it is claimed.
        (self.sound, self.left_over) = (!read.more, read.more);
        for (id, bytes) in read.long {
            report_dead_letter(&DeadLetter::of_long_entry(id, bytes, keys.entry_max_bytes, Timestamp::now().into()));
        }
        read.gone.into_iter().for_each(|id| shared.lose(id));
        shared.report(read.loss);
        let time = read.time;
        let claimed = read.claimed.into_iter().map(|count| (count.max(1), true));
        let counts = claimed.chain(std::iter::repeat((1, false)));
        let mut in_hand = shared.in_hand();
        let fresh = read.entries.into_iter().zip(counts).filter(|(entry, _)| in_hand.insert(entry.id));
        let deliver = |(entry, (attempt, again)): (answer::Entry, _)| Delivery {
            id: entry.id,
            attempt,
            again,
            added_at: entry.id.time(),
            read_at: time,
            fields: entry.fields,
        };
        Ok(fresh.map(deliver).collect())
    }

    /// Waits until an entry is published, at most for `wait`.
    async fn wait(&mut self, shared: &Arc<Shared>, wait: Duration, deadline: Instant) -> Result<(), Error> {
        let last = self.last.unwrap_or_default();
        // A separate task, so that a dropped call leaves no unanswered command on a connection.
        let waiting = self.waiting.get_or_insert_with(|| tokio::spawn(more(Arc::clone(shared), last, wait)));
        let Ok(ended) = timeout_at(deadline, waiting).await else { return Ok(()) };
        self.waiting = None;
        ended?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
    }
}

/// Returns when there is an entry after `last`, or after `wait`.
async fn more(shared: Arc<Shared>, last: EntryId, wait: Duration) -> Result<(), Error> {
    let mut kept = shared.waiting.lock().await;
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => shared.connection.for_reads(LONGEST_WAIT).await?,
    };
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(1).arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
    command.arg("STREAMS").arg(&shared.keys.stream).arg(last.to_string());
    command.query_async::<Value>(&mut connection).await?;
    *kept = Some(connection);
    Ok(())
}

/// Entries that this process received and has not finished.
pub(super) type InHand = HashSet<EntryId>;
