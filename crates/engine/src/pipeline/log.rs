//! The write-ahead log as the worker uses it: a batch is one append and one sync, on a thread that may block. An
//! operation that no line can hold is refused alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_wal::disk::Disk;
use chunk_sync_wal::{
    Completion, MAX_LINE, Options, Origin, Outcome, Pending, Recovery, Wal, WalError, rename_future_files,
};
use tracing::warn;
use uuid::Uuid;

use crate::operator::erase;
use crate::pipeline::envelope::{Entry, Operation};
use crate::ports::{Fault, FaultClass};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;
use crate::runtime::progress::Stop;
use crate::runtime::settings::WalSettings;

/// How long to wait for room in a full log before the next attempt.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// What a line has besides its operation, at most: ids, time, checksum.
const LINE_REST: usize = 1024;

/// Longest error text in a line.
const ERROR_BYTES: usize = 2048;

/// The log, open for one term. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    /// `None` once it is closed: work of a term that is over may still be queued for the disk.
    wal: Arc<Mutex<Option<Wal>>>,
    keep: Duration,
    clock: Clock,
    /// The longest operation that it accepts, in bytes.
    longest: usize,
    /// Whether its disk may block a thread.
    blocks: bool,
}

/// An operation in the form in which the log stores it.
struct Written {
    id: String,
    json: String,
    origin: Option<Origin<'static>>,
}

impl Written {
    fn of(operation: &Operation, epoch: &str) -> Self {
        let origin = |entry: &Entry| Origin { entry: entry.id.to_string().into(), epoch: epoch.to_owned().into() };
        let origin = operation.entry.as_ref().map(origin);
        Self { id: operation.id.clone(), json: operation.event.to_json(), origin }
    }

    fn pending(&self) -> Pending<'_> {
        Pending { origin: self.origin.clone(), ..Pending::new(&self.id, &self.json) }
    }
}

/// How an operation ended.
pub(crate) struct Ending<'a> {
    pub(crate) operation: &'a str,
    /// Why it failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

impl Log {
    /// Opens the log and returns what is pending in it.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        clock: Clock,
        settings: &WalSettings,
    ) -> Result<(Self, Recovery), WalError> {
        let (blocks, options) = (disk.blocks(), Options { max_bytes: settings.max_bytes });
        let now = clock.timestamp();
        let open = move || {
            for file in rename_future_files(&*disk, now)? {
                warn!(from = file.from, to = file.to, "renamed a file of the log whose hour lies in the future");
            }
            Wal::open_on(disk, options)
        };
        let (wal, recovery) = run_blocking(blocks, open).await?;
        // Half of the log, so that a long operation does not have to wait until all others have completed.
        let half = usize::try_from(settings.max_bytes / 2).unwrap_or(usize::MAX);
        let longest = half.min(MAX_LINE).saturating_sub(LINE_REST);
        Ok((Self { wal: Arc::new(Mutex::new(Some(wal))), keep: settings.keep, clock, longest, blocks }, recovery))
    }

    /// Closes the log. Work that is still queued fails and writes nothing, and the log can be opened again.
    pub(crate) async fn close(&self) {
        let wal = Arc::clone(&self.wal);
        self.run_blocking(move || drop(wal.lock().unwrap_or_else(PoisonError::into_inner).take())).await;
    }

    /// Makes the operations durable, each with its entry in the epoch `epoch` of the bus, and returns by index those
    /// that are too long for the log, each with its fault; nothing of them was written. Waits while the log is full:
    /// that is back-pressure, not loss. A stop ends the wait with a fault; nothing was written then.
    pub(crate) async fn append(
        &self,
        operations: &[Operation],
        epoch: &str,
        stop: &Stop,
    ) -> Result<Vec<(usize, Fault)>, Fault> {
        let (mut refused, mut lines) = (Vec::new(), Vec::with_capacity(operations.len()));
        for (i, operation) in operations.iter().enumerate() {
            let line = Written::of(operation, epoch);
            if line.json.len() > self.longest {
                refused.push((i, too_long(line.json.len(), self.longest)));
            } else {
                lines.push(line);
            }
        }
        self.append_lines(lines.into(), stop).await?;
        Ok(refused)
    }

    async fn append_lines(&self, lines: Arc<[Written]>, stop: &Stop) -> Result<(), Fault> {
        let mut said = false;
        loop {
            let batch = Arc::clone(&lines);
            let now = self.clock.timestamp();
            let appended = self.on_disk(move |wal| {
                let pending: Vec<_> = batch.iter().map(Written::pending).collect();
                match wal.append(&pending, now) {
                    Err(error) if error.is_full() => {
                        wal.reclaim()?;
                        wal.append(&pending, now)
                    }
                    other => other,
                }
            });
            match appended.await {
                Err(error) if error.is_full() => {
                    if !said {
                        warn!(%error, "the log is full; waiting until operations complete; a store that fails, or wal.max_bytes, is the cause");
                        said = true;
                    }
                    if stop.during(tokio::time::sleep(FULL_PAUSE)).await.is_none() {
                        return Err(Fault::new(
                            FaultClass::Busy,
                            "log",
                            "stopped while the log was full; raise wal.max_bytes, or repair the store that its operations wait for",
                        ));
                    }
                }
                other => return other.map_err(|error| fault(&error)),
            }
        }
    }

    /// Records that operations of an earlier run are about to be carried again; durable on return.
    pub(crate) async fn begin_again(&self, operations: &[Operation]) -> Result<(), Fault> {
        let ids: Vec<String> = operations.iter().map(|operation| operation.id.clone()).collect();
        let now = self.clock.timestamp();
        let begun = self.on_disk(move |wal| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            wal.begin_again(&ids, now)
        });
        begun.await.map_err(|error| fault(&error))
    }

    /// Records how operations ended. Not synced: a completion that a crash loses causes one more replay, which is
    /// harmless.
    pub(crate) async fn complete(&self, endings: &[Ending<'_>]) -> Result<(), Fault> {
        let endings: Vec<(String, Option<String>)> =
            endings.iter().map(|e| (e.operation.to_owned(), e.error.clone().map(shortened))).collect();
        let now = self.clock.timestamp();
        let completed = self.on_disk(move |wal| {
            let completions: Vec<_> = endings
                .iter()
                .map(|(operation_id, error)| Completion {
                    operation_id,
                    outcome: error.as_deref().map_or(Outcome::Complete, |error| Outcome::Failed { error }),
                })
                .collect();
            wal.complete(&completions, now)
        });
        completed.await.map_err(|error| fault(&error))
    }

    /// Syncs at an orderly end, so that the next start knows what was completed.
    pub(crate) async fn sync(&self) -> Result<(), Fault> {
        self.on_disk(Wal::sync).await.map_err(|error| fault(&error))
    }

    /// Erases the ended operations of these chunks; returns whether none of them is still pending.
    pub(crate) async fn erase(&self, ids: Vec<Uuid>) -> Result<bool, Fault> {
        let erased = self.on_disk(move |wal| wal.erase(&|operation| erase::is_of(operation, &ids)));
        Ok(erased.await.map_err(|error| fault(&error))?.1 == 0)
    }

    /// Removes files whose operations all ended at least `keep` ago, and reports the size of the rest as a metric.
    pub(crate) async fn retire(&self) -> Result<(), Fault> {
        let (keep, now) = (self.keep, self.clock.timestamp());
        let retired = self.on_disk(move |wal| {
            wal.retire(now, keep)?;
            Ok(wal.bytes())
        });
        metrics::wal_bytes(retired.await.map_err(|error| fault(&error))?);
        Ok(())
    }

    async fn on_disk<T, F>(&self, work: F) -> Result<T, WalError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Wal) -> Result<T, WalError> + Send + 'static,
    {
        let wal = Arc::clone(&self.wal);
        let on_open = move || match &mut *wal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(wal) => work(wal),
            None => Err(WalError::Poisoned { cause: "the log was closed because the term is over".to_owned() }),
        };
        self.run_blocking(on_open).await
    }

    /// Runs work that waits for the log's disk.
    pub(crate) async fn run_blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        run_blocking(self.blocks, work).await
    }
}

/// The fault of an operation of `bytes` bytes, where the log accepts `longest`.
fn too_long(bytes: usize, longest: usize) -> Fault {
    let message = format!(
        "the event has {bytes} bytes, and the write-ahead log accepts {longest}; split the chunk, or raise wal.max_bytes if \
         it is the smaller bound"
    );
    Fault::new(FaultClass::Rejected, "write-ahead log", message).at("chunk")
}

/// The error text, cut so that it fits into a line with room to spare.
fn shortened(mut error: String) -> String {
    let cut = (0..=ERROR_BYTES.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    error.truncate(cut.unwrap_or_default());
    error
}

/// Runs `work` on a thread that may block if `blocks`, else in place.
pub(crate) async fn run_blocking<T, F>(blocks: bool, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if !blocks {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// A log that fails stops the worker: no step may continue as if the write had succeeded.
pub(crate) fn fault(error: &WalError) -> Fault {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Fault::new(FaultClass::Disk, "write-ahead log", format!("{error}{cause}"))
}
