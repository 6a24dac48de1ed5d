//! The transaction of a merge: lock, read, decide, write.
//!
//! Locks are taken in ascending order of key or id, so that two merges never deadlock. A chunk may have neither row nor
//! record yet, so each chunk has an advisory lock; the row is locked too, against programs that write into the table
//! directly. Such a program may still insert a row after the merge found none: then the merge writes nothing and starts
//! again with that row.
//!
//! A merge of a process that works the stream first locks the lease shared and compares its token (`lease.rs`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Commit, Committed, CurrentState, EntryId, Fault, Fence, MergeScope, MergeTransaction, RowsWritten,
};
use chunk_sync_model::{Hash, Record};
use deadpool_postgres::{Client, GenericClient};
use futures::future::{try_join, try_join3, try_join4};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::absence;
use super::bus::entry;
use super::fault::Error;
use super::fence;
use super::open_transaction::OpenTransaction;
use super::record_writes::Changes;
use super::records::PostgresRecords;
use super::reserved::Copies;
use super::row_writes::RowWrites;
use super::schema::Layout;
use super::sql;
use super::states::{HeldRow, decode_records, read_states};
use super::transaction::{execute, set_locally};

const MERGE: &str = "postgres: merge";

/// How long a merge waits for a row that another program locks. Meanwhile it holds the locks of other rows, for which the
/// application waits.
const ROW_LOCK_WITHIN: &str = "50ms";

/// An open merge transaction.
pub(super) struct Merge<'a> {
    records: &'a PostgresRecords,
    layout: Arc<Layout>,
    transaction: OpenTransaction,
    finished: Vec<EntryId>,
    current: Vec<CurrentState>,
    rows: HashMap<Uuid, HeldRow>,
    /// Whether the rows are written.
    has_written: bool,
    /// What was written under the reserved key.
    copies: Copies,
}

impl PostgresRecords {
    pub(super) async fn begin_merge(&self, scope: MergeScope<'_>) -> Result<Merge<'_>, Fault> {
        let begun = async {
            let layout = self.layout().await?;
            let mut transaction = OpenTransaction::begin(&self.pool).await?;
            let read = self.pool.within(Box::pin(self.read_current(transaction.client()?, &layout, scope))).await;
            match read {
                Ok((current, rows)) => {
                    let finished = scope.finished.to_vec();
                    Ok(Merge {
                        records: self,
                        layout,
                        transaction,
                        finished,
                        current,
                        rows,
                        has_written: false,
                        copies: Copies::new(),
                    })
                }
                Err(error) => Err(transaction.roll_back(&self.pool, error).await),
            }
        };
        begun.await.map_err(|error| self.fault(error, MERGE))
    }

    /// Locks the rows that are free and returns the others. The locks end at once, with the transaction.
    pub(super) async fn rows_locked_by_others(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
        let layout = self.layout().await?;
        let mut transaction = OpenTransaction::begin(&self.pool).await?;
        let asked = self.pool.within(async {
            let client = transaction.client()?;
            execute(client, sql::SET_LOCK_TIMEOUT, &[&ROW_LOCK_WITHIN]).await?;
            let locked = client.prepare_cached(&layout.statements.locked).await?;
            client.query(&locked, &[&ids]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
        });
        match asked.await {
            Ok(locked) => Ok(locked),
            Err(error) => Err(transaction.roll_back(&self.pool, error).await),
        }
    }

    async fn read_current(
        &self,
        transaction: &Client,
        layout: &Layout,
        scope: MergeScope<'_>,
    ) -> Result<(Vec<CurrentState>, HashMap<Uuid, HeldRow>), Error> {
        fence::check(transaction, scope.fence).await?;
        let (mut records, rows) = self.lock(transaction, layout, scope.ids, scope.fence).await?;
        // Only rows that are absent can have a note that decides anything, and a note goes when its row shows again.
        let notes = transaction.prepare_cached(absence::NOTES).await?;
        let notes = absence::notes(&transaction.query(&notes, &[&scope.ids]).await?)?;
        let current = |id: &Uuid| {
            let state = rows.get(id).map(|row| row.state.clone());
            let (record, row) = records.remove(id).map_or((None, None), |(record, row)| (Some(record), row));
            CurrentState { record, state, row, absence: notes.get(id).copied() }
        };
        Ok((scope.ids.iter().map(current).collect(), rows))
    }

    /// Locks the chunks and reads their records and rows. The statements are pipelined: each is sent without waiting
    /// for the previous one, and the server runs them in order.
    async fn lock(
        &self,
        transaction: &Client,
        layout: &Layout,
        ids: &[Uuid],
        fence: &Fence,
    ) -> Result<(HashMap<Uuid, (Record, Option<Hash>)>, HashMap<Uuid, HeldRow>), Error> {
        let keys: Vec<i32> = ids.iter().map(key).collect::<BTreeSet<_>>().into_iter().collect();
        let lock = transaction.prepare_cached(sql::LOCK).await?;
        let records = transaction.prepare_cached(sql::RECORDS).await?;
        // Prepared before the pipeline starts, so that no round trip interrupts it.
        transaction.prepare_cached(&layout.statements.lock_rows).await?;
        transaction.prepare_cached(sql::FURTHER).await?;
        transaction.prepare_cached(sql::SET_LOCALLY).await?;
        transaction.prepare_cached(sql::LEASE_LOCK_SHARED).await?;
        transaction.prepare_cached(sql::LEASE_TOKEN).await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&ids];
        let keys: [&(dyn ToSql + Sync); 1] = [&keys];
        let short = transaction.prepare_cached(sql::SET_LOCK_TIMEOUT).await?;
        let locked = try_join4(
            async { Ok::<_, Error>(transaction.query(&lock, &keys).await?) },
            async { Ok(transaction.query(&short, &[&ROW_LOCK_WITHIN]).await?) },
            async { Ok(transaction.query(&records, &parameters).await?) },
            read_states(transaction, &layout.statements.lock_rows, &self.config, ids, Timestamp::now().into(), None),
        );
        let settings = set_locally(transaction, self.config.lock_timeout);
        let (_, holds, (_, _, records, rows)) = try_join3(settings, holds(transaction, fence), locked).await?;
        if !holds {
            return Err(Error::Lease);
        }
        Ok((decode_records(&records)?, rows))
    }
}

#[async_trait]
impl MergeTransaction for Merge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
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

    async fn commit(mut self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        if !self.has_written
            && let RowsWritten::Overtaken = self.write(&commits).await?
        {
            return Ok(Committed::Overtaken);
        }
        let Self { records, mut transaction, finished, copies, .. } = *self;
        let write = async {
            let client = transaction.client()?;
            Box::pin(write_all(client, &commits, &copies, &finished)).await
        };
        let ended = match records.pool.within(write).await {
            Ok(()) => transaction.commit(&records.pool).await,
            Err(error) => Err(transaction.roll_back(&records.pool, error).await),
        };
        match ended {
            Ok(()) => {
                records.handed.finish(&finished);
                Ok(Committed::Durable)
            }
            Err(error) => Err(records.fault(error, MERGE)),
        }
    }
}

async fn write_all(
    transaction: &Client,
    commits: &[Commit],
    copies: &Copies,
    finished: &[EntryId],
) -> Result<(), Error> {
    Changes::of(commits, copies)?.write(transaction).await?;
    absence::write_notes(transaction, commits).await?;
    if !finished.is_empty() {
        execute(transaction, entry::REMOVE, &[&entry::numbers(finished)]).await?;
    }
    Ok(())
}

/// Locks the lease until the transaction ends and compares its token; true if the fence names none. Both statements are sent
/// at once.
pub(super) async fn holds(transaction: &impl GenericClient, fence: &Fence) -> Result<bool, Error> {
    let Some(token) = fence.lease else { return Ok(true) };
    let lock = transaction.prepare_cached(sql::LEASE_LOCK_SHARED).await?;
    let read = transaction.prepare_cached(sql::LEASE_TOKEN).await?;
    let (_, row) = try_join(transaction.query(&lock, &[]), transaction.query_opt(&read, &[])).await?;
    let held: Option<Uuid> = row.map_or(Ok(None), |row| row.try_get(0))?;
    Ok(held == Some(token))
}

/// The advisory lock of a chunk. Two chunks with the same key only wait for each other needlessly.
fn key(id: &Uuid) -> i32 {
    let (a, b) = id.as_u64_pair();
    let mixed = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    #[allow(clippy::cast_possible_truncation, reason = "takes the upper half")]
    let key = (mixed >> 32) as i32;
    key
}
