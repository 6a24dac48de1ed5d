//! Reading: one script hands out what is pending elsewhere and what is new; waiting is a plain `XREAD`.
//!
//! What the server handed out under a name is known to this process, or it was on its way in an answer that was lost or not
//! waited for. So after each answer that did not arrive the reader goes on under a new name: everything under the old one
//! is pending elsewhere, and comes again in its place, save what this process has in hand.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Delivery, EntryId, Handover};
use redis::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::Shared;
use super::answer;
use super::fault::Error;
use super::scripts::READ;

/// The longest that one wait lasts: what a process takes that lost the lease is found after as long.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Bytes of fields that one read brings, about.
const MAX_BYTES: usize = 8 << 20;

/// What this process reads by.
#[derive(Default)]
pub(super) struct Reader {
    /// How often the reader went on under a new name.
    renewals: u64,
    /// Every answer under the present name has arrived.
    sound: bool,
    /// Claims up to here count as deliveries.
    count_to: Option<EntryId>,
    /// The last entry that the group was ever handed.
    last: Option<EntryId>,
    /// A wait under way, also of a call that was dropped.
    waiting: Option<JoinHandle<Result<(), Error>>>,
}

impl Reader {
    /// This process reads from now on.
    pub(super) async fn begin(&mut self, shared: &Shared, handover: Handover) -> Result<(), Error> {
        self.sound = false;
        shared.in_hand().clear();
        let group = shared.group().await?;
        self.last = group.map(|group| group.last_delivered);
        self.count_to = self.last.filter(|_| handover == Handover::Silent);
        Ok(())
    }

    /// Up to `max` entries; waits until `deadline` for the first.
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
                        "the group of workers has vanished: made anew, it reads from the start"
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

    /// What is there now. Nothing is waited for once the answer is here: a call that is dropped has taken nothing.
    async fn fetch(&mut self, shared: &Shared, max: usize) -> Result<Vec<Delivery>, Error> {
        let keys = &shared.keys;
        if !std::mem::replace(&mut self.sound, false) {
            self.renewals += 1;
        }
        let consumer = format!("{}.{}", keys.consumer, self.renewals);
        // Counted once, also where the answer is lost: better too few deliveries than an entry accused without reason.
        let count_to = self.count_to.take();
        let answer: Value = shared
            .connection
            .script_once(&READ, &[&keys.stream], |command| {
                command.arg(&keys.group).arg(&consumer).arg(max).arg(MAX_BYTES);
                command.arg(count_to.map(|id| id.to_string()).unwrap_or_default());
            })
            .await?;
        let read = answer::read(answer)?;
        if !read.claimed.is_empty() {
            info!(entries = read.claimed.len(), "took over what another worker had not finished");
            self.count_to = count_to;
        }
        self.last = Some(read.last);
        self.sound = true;
        read.gone.into_iter().for_each(|id| shared.lose(id));
        let claimed = read.claimed.into_iter().map(|count| (count.max(1), true));
        let counts = claimed.chain(std::iter::repeat((1, false)));
        let mut in_hand = shared.in_hand();
        let fresh = read.entries.into_iter().zip(counts).filter(|(entry, _)| in_hand.insert(entry.id));
        let deliver = |(entry, (attempt, again)): (answer::Entry, _)| Delivery {
            id: entry.id,
            attempt,
            again,
            fields: entry.fields,
        };
        Ok(fresh.map(deliver).collect())
    }

    /// Waits until something is published, or for so long.
    async fn wait(&mut self, shared: &Arc<Shared>, wait: Duration, deadline: Instant) -> Result<(), Error> {
        let last = self.last.unwrap_or_default();
        // A task of its own: a call that is dropped leaves no unanswered command on a connection.
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

/// Ends when there is an entry after `last`, or after so long.
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

/// What this process was handed and has not finished.
pub(super) type InHand = HashSet<EntryId>;
