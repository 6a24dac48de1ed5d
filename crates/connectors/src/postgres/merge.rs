//! The transaction of a merge: lock, read, decide, write. It takes two round trips: [`reading`] begins it, checks the
//! fence, locks and reads; the second one writes and commits.
//!
//! Locks are taken in ascending order of key or id, so that two merges never deadlock. A chunk may have neither row nor
//! record yet, so each chunk has an advisory lock; the row is locked too, against programs that write into the table
//! directly. Such a program may still insert a row after the merge found none: then the merge writes nothing and starts
//! again with that row.
//!
//! A merge of a process that works the stream first locks the lease shared and compares its token (`lease.rs`).
//!
//! # Rows as stored
//! A table with triggers or rules may store a row in another form than it was written, and the record must know that form
//! before it is committed. There the rows are written first, and read back, and the record follows ([`Merge::write`]). If
//! the last merge found neither, rows, record, outbox and commit are sent together, with a statement before the commit that
//! fails if there is a trigger or a rule after all, or another table: the transaction is rolled back, and the merge begins
//! again and writes the rows first. Between that statement and the commit no trigger can be created, because the writes
//! before it lock the table against that.
//!
//! # What a crash does
//! - before the commit is sent: the server rolls back when the connection ends; nothing happened;
//! - after it was sent and before its answer: all of it is durable or none. The merge is repeated; if it was committed, the
//!   record has the change, so the repeated merge changes nothing, and the stores are sent the version once more;
//! - a connection that ends meanwhile, or whose answers nothing waits for any more, is closed and leaves the same doubt.
//!   The server runs what it has received: all statements and the commit were sent together, in this order, and after a
//!   statement that failed or did not arrive there is no commit.

mod reading;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Commit, Committed, CurrentState, EntryId, Fault, MergeScope, MergeTransaction, RowsWritten,
};
use uuid::Uuid;

use super::absence;
use super::bus::entry;
use super::fault::Error;
use super::flight::{Failed, Flight};
use super::open_transaction::OpenTransaction;
use super::record_writes::Changes;
use super::records::PostgresRecords;
use super::reserved::Copies;
use super::row_writes::{RowWrites, Unverified};
use super::schema::Layout;
use super::states::HeldRow;
pub(super) use reading::check_lease;
use reading::{Read, Reading, locking};

const MERGE: &str = "postgres: merge";

/// An open merge transaction.
pub(super) struct Merge<'a> {
    records: &'a PostgresRecords,
    layout: Arc<Layout>,
    transaction: OpenTransaction,
    finished: Vec<EntryId>,
    current: Vec<CurrentState>,
    rows: HashMap<Uuid, HeldRow>,
    /// Whether the rows are left to the commit.
    is_deferred: bool,
    /// Whether the rows are written.
    has_written: bool,
    /// What was written under the reserved key.
    copies: Copies,
}

impl PostgresRecords {
    pub(super) async fn begin_merge(&self, scope: MergeScope<'_>) -> Result<Merge<'_>, Fault> {
        let begun = async {
            let layout = self.layout().await?;
            let mut flight = Flight::beginning();
            let reading = Reading::add(&mut flight, &layout, &self.config, scope);
            let (mut transaction, answers) = OpenTransaction::begin(&self.pool, flight).await?;
            let read = self.pool.within(reading.decode(&answers, transaction.client()?, &self.config, scope)).await;
            match read {
                Ok(Read { current, rows }) => Ok(Merge {
                    records: self,
                    is_deferred: layout.stores_as_written(),
                    layout,
                    transaction,
                    finished: scope.finished.to_vec(),
                    current,
                    rows,
                    has_written: false,
                    copies: Copies::new(),
                }),
                Err(error) => Err(transaction.roll_back(&self.pool, error).await),
            }
        };
        begun.await.map_err(|error| self.fault(error, MERGE))
    }

    /// Locks the rows that are free and returns the others. The locks end at once, with the transaction.
    pub(super) async fn rows_locked_by_others(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
        let layout = self.layout().await?;
        let mut flight = Flight::beginning();
        let place = locking(&mut flight, &layout, ids);
        let (_transaction, answers) = OpenTransaction::begin(&self.pool, flight).await?;
        answers.rows(place).iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

impl Merge<'_> {
    /// Writes the rows, and reads them back where the table may have altered them.
    async fn write_rows(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
        self.has_written = true;
        let Self { records, layout, transaction, rows, .. } = self;
        let write = async {
            let writes = RowWrites::of(commits, rows, layout, &records.config);
            // The futures of its statements are large: they live on the heap.
            Box::pin(writes.write(transaction.client()?, layout, &records.config)).await
        };
        let error = match records.pool.within(write).await {
            Ok(written) => {
                self.copies = written.copies;
                return Ok(RowsWritten::Stored(written.altered));
            }
            // Locks and, after a deadline, the connection are given up at once.
            Err(error) => transaction.roll_back(&records.pool, error).await,
        };
        match error {
            Error::Overtaken => Ok(RowsWritten::Overtaken),
            error => Err(records.fault(error, MERGE)),
        }
    }

    /// The last flight: the rows if they are not written yet, then everything else.
    fn flight(&mut self, commits: &[Commit]) -> Result<(Flight, Unverified), Error> {
        let mut flight = Flight::default();
        let mut unverified = Unverified::default();
        if self.is_deferred && !self.has_written {
            let writes = RowWrites::of(commits, &self.rows, &self.layout, &self.records.config);
            (self.copies, unverified) = writes.add(&mut flight, &self.layout);
        }
        Changes::of(commits, &self.copies)?.add(&mut flight);
        absence::add_notes(&mut flight, commits);
        if !self.finished.is_empty() {
            flight.add(entry::REMOVE, vec![Box::new(entry::numbers(&self.finished))]);
        }
        Ok((flight, unverified))
    }
}

#[async_trait]
impl MergeTransaction for Merge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
        if self.is_deferred { Ok(RowsWritten::Stored(Vec::new())) } else { self.write_rows(commits).await }
    }

    async fn commit(mut self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        if !self.is_deferred
            && !self.has_written
            && let RowsWritten::Overtaken = self.write_rows(&commits).await?
        {
            return Ok(Committed::Overtaken);
        }
        let flight = self.flight(&commits);
        let Self { records, layout, mut transaction, finished, .. } = *self;
        let (flight, unverified) = match flight {
            Ok(flight) => flight,
            Err(error) => return Err(records.fault(transaction.roll_back(&records.pool, error).await, MERGE)),
        };
        match transaction.commit(&records.pool, flight).await {
            Ok(()) => {
                records.handed.finish(&finished);
                Ok(Committed::Durable)
            }
            Err(failed) if unverified.is_refuted(&failed, &layout) => {
                layout.note_stored_as_written(false);
                Ok(Committed::Overtaken)
            }
            Err(Failed { error, .. }) => Err(records.fault(error, MERGE)),
        }
    }
}
