//! The first flight of a merge: it begins the transaction, sets its limits, checks the fence, locks the chunks, and reads
//! their records, rows and notes.

use std::collections::{BTreeSet, HashMap};

use chunk_sync_engine::ports::{CurrentState, Fence, MergeScope, READ_BYTES};
use deadpool_postgres::{Client, GenericClient};
use futures::future::try_join;
use jiff::Timestamp;
use uuid::Uuid;

use crate::postgres::absence;
use crate::postgres::config::PostgresConfig;
use crate::postgres::fault::Error;
use crate::postgres::fence;
use crate::postgres::flight::{Answers, Flight};
use crate::postgres::reserved;
use crate::postgres::schema::Layout;
use crate::postgres::sql;
use crate::postgres::states::{HeldRow, decode_records, decode_states, images};
use crate::postgres::transaction::local_settings;

/// How long a merge waits for a row that another program locks. Meanwhile it holds the locks of other rows, for which the
/// application waits.
const ROW_LOCK_WITHIN: &str = "50ms";

/// The places of the answers.
pub(super) struct Reading {
    stores: Option<usize>,
    lease: Option<usize>,
    records: usize,
    rows: usize,
    further: usize,
    notes: usize,
}

/// What a transaction has read under its locks.
pub(super) struct Read {
    /// In the order of the ids.
    pub(super) current: Vec<CurrentState>,
    pub(super) rows: HashMap<Uuid, HeldRow>,
}

impl Reading {
    /// Adds the statements to `flight`.
    pub(super) fn add(flight: &mut Flight, layout: &Layout, config: &PostgresConfig, scope: MergeScope<'_>) -> Self {
        flight.add(sql::SET_LOCALLY, local_settings(config.lock_timeout));
        let stores = fence::ask(flight, scope.fence);
        let lease = scope.fence.lease.map(|_| {
            flight.add(sql::LEASE_LOCK_SHARED, Vec::new());
            flight.add(sql::LEASE_TOKEN, Vec::new())
        });
        let keys: Vec<i32> = scope.ids.iter().map(key).collect::<BTreeSet<_>>().into_iter().collect();
        let ids = || Box::new(scope.ids.to_vec());
        flight.add(sql::LOCK, vec![Box::new(keys)]);
        flight.add(sql::SET_LOCK_TIMEOUT, vec![Box::new(ROW_LOCK_WITHIN)]);
        if scope.ids.len() > 1 {
            flight.read_at_most(READ_BYTES);
        }
        Self {
            stores,
            lease,
            records: flight.add(sql::RECORDS, vec![ids()]),
            rows: flight.add(layout.statements.lock_rows.clone(), vec![ids()]),
            further: flight.add(sql::FURTHER, vec![ids()]),
            // Only rows that are absent can have a note that decides anything, and a note goes when its row shows again.
            notes: flight.add(absence::NOTES, vec![ids()]),
        }
    }

    /// Decodes the answers, once the fence is found to hold. Asks for the copies of the reserved key only where a row
    /// lacks the key and its record has a copy.
    pub(super) async fn decode(
        self,
        answers: &Answers,
        client: &Client,
        config: &PostgresConfig,
        scope: MergeScope<'_>,
    ) -> Result<Read, Error> {
        if let Some(place) = self.stores {
            fence::compare(answers.rows(place), scope.fence)?;
        }
        if let Some(place) = self.lease {
            is_held(answers.rows(place), scope.fence)?;
        }
        let mut records = decode_records(answers.rows(self.records))?;
        let images = images(answers.rows(self.rows), answers.rows(self.further))?;
        let mut copied = BTreeSet::new();
        for record in answers.rows(self.records) {
            if record.try_get(3)? {
                copied.insert(record.try_get::<_, Uuid>(0)?);
            }
        }
        let lacking = images.iter().filter(|row| reserved::is_missing(row) && copied.contains(&row.id));
        let lacking: Vec<Uuid> = lacking.map(|row| row.id).collect();
        let copies = reserved::copies(client, &lacking).await?;
        let rows = decode_states(images, &copies, config, Timestamp::now().into());
        let notes = absence::notes(answers.rows(self.notes))?;
        let current = |id: &Uuid| {
            let state = rows.get(id).map(|row| row.state.clone());
            let (record, row) = records.remove(id).map_or((None, None), |(record, row)| (Some(record), row));
            CurrentState { record, state, row, absence: notes.get(id).copied() }
        };
        Ok(Read { current: scope.ids.iter().map(current).collect(), rows })
    }
}

/// Begins a transaction that locks those of the rows that are free, and returns the others.
pub(super) fn locking(flight: &mut Flight, layout: &Layout, ids: &[Uuid]) -> usize {
    flight.add(sql::SET_LOCK_TIMEOUT, vec![Box::new(ROW_LOCK_WITHIN)]);
    flight.add(layout.statements.locked.clone(), vec![Box::new(ids.to_vec())])
}

/// Fails if the lease has another token than the fence.
fn is_held(rows: &[tokio_postgres::Row], fence: &Fence) -> Result<(), Error> {
    let held: Option<Uuid> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    if held == fence.lease { Ok(()) } else { Err(Error::Lease) }
}

/// Locks the lease until the transaction ends, and fails if it has another token than the fence. Both statements are sent
/// at once.
pub(in crate::postgres) async fn check_lease(transaction: &impl GenericClient, fence: &Fence) -> Result<(), Error> {
    if fence.lease.is_none() {
        return Ok(());
    }
    let lock = transaction.prepare_cached(sql::LEASE_LOCK_SHARED).await?;
    let read = transaction.prepare_cached(sql::LEASE_TOKEN).await?;
    let (_, rows) = try_join(transaction.query(&lock, &[]), transaction.query(&read, &[])).await?;
    is_held(&rows, fence)
}

/// The advisory lock of a chunk. Two chunks with the same key only wait for each other needlessly.
fn key(id: &Uuid) -> i32 {
    let (a, b) = id.as_u64_pair();
    let mixed = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    #[allow(clippy::cast_possible_truncation, reason = "takes the upper half")]
    let key = (mixed >> 32) as i32;
    key
}
