//! The transaction of a merge in SQLite. It runs on a thread that may block: the thread reads, waits for the commits,
//! writes and commits. If the handle is dropped, the thread has nothing to wait for and rolls back.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Commit, Committed, CurrentState, Fault, FaultClass, Fence, MergeScope, MergeTransaction, RowsWritten,
};
use rusqlite::Transaction;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::database::{Database, Durability};
use super::fault::Error;
use super::{fence, tables};

const MERGE: &str = "embedded rows: merge";

/// An open merge transaction.
pub(super) struct Merge {
    current: Vec<CurrentState>,
    commits: oneshot::Sender<Vec<Commit>>,
    thread: JoinHandle<Result<(), Error>>,
}

/// The end of the transaction that its thread holds.
struct Work {
    ids: Vec<Uuid>,
    fence: Fence,
    current: oneshot::Sender<Vec<CurrentState>>,
    commits: oneshot::Receiver<Vec<Commit>>,
}

impl Merge {
    /// Waits for the write lock and reads the chunks.
    ///
    /// # Errors
    /// The fence does not hold, or SQLite fails.
    pub(super) async fn begin(database: &Arc<Database>, scope: MergeScope<'_>) -> Result<Self, Fault> {
        let (current_sender, current) = oneshot::channel();
        let (commits, commits_receiver) = oneshot::channel();
        let work = Work {
            ids: scope.ids.to_vec(),
            fence: scope.fence.clone(),
            current: current_sender,
            commits: commits_receiver,
        };
        let database = Arc::clone(database);
        let thread = tokio::task::spawn_blocking(move || work.run(&database));
        match current.await {
            Ok(current) => Ok(Self { current, commits, thread }),
            Err(_) => Err(ended(thread).await.err().unwrap_or_else(|| Error::Abandoned.into_fault(MERGE))),
        }
    }
}

#[async_trait]
impl MergeTransaction for Merge {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    /// No trigger alters the rows of the file: all of a commit is written at once.
    async fn write(&mut self, _: &[Commit]) -> Result<RowsWritten, Fault> {
        Ok(RowsWritten::Stored(Vec::new()))
    }

    async fn commit(self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        let Self { commits: sender, thread, .. } = *self;
        // If the thread has ended already, its result states why.
        drop(sender.send(commits));
        ended(thread).await.map(|()| Committed::Durable)
    }
}

/// The result of the thread.
async fn ended(thread: JoinHandle<Result<(), Error>>) -> Result<(), Fault> {
    match thread.await {
        Ok(result) => result.map_err(|error| error.into_fault(MERGE)),
        Err(panic) => Err(Fault::new(FaultClass::Corrupt, MERGE, panic)),
    }
}

impl Work {
    fn run(self, database: &Database) -> Result<(), Error> {
        database.write_now(Durability::Synced, |transaction| self.merge(database, transaction))
    }

    fn merge(self, database: &Database, transaction: &Transaction<'_>) -> Result<(), Error> {
        fence::check(transaction, &self.fence, MERGE)?;
        if self.fence.lease.is_some_and(|token| !database.lease.is(token)) {
            return Err(Error::Lease);
        }
        let current = self.ids.iter().map(|id| tables::current(transaction, *id)).collect::<Result<_, _>>()?;
        self.current.send(current).map_err(|_| Error::Abandoned)?;
        let commits = self.commits.blocking_recv().map_err(|_| Error::Abandoned)?;
        commits.iter().try_for_each(|commit| tables::store(transaction, commit))
    }
}
