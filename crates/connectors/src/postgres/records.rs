//! The records and the outbox, and reads of rows with their records. [`super::merge`] writes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    ConflictFilter, ConflictLog, ConflictPage, Counts, CurrentState, Fault, FaultClass, MergeScope, MergeTransaction,
    Row, RowPage, SystemOfRecord,
};
use chunk_sync_model::Time;
use deadpool_postgres::{Client, Transaction};
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

use super::bus::handed::Handed;
use super::config::PostgresConfig;
use super::facts;
use super::facts::{Extension, Facts};
use super::fault::{Error, field};
use super::pool::Pool;
use super::schema::{self, Layout};
use super::sql;
use super::states::{Pick, current, read};
use super::transaction::{begin, set_locally};

const PREPARE: &str = "postgres: prepare";
const READ: &str = "postgres: read";
const WRITES: &str = "postgres: check";
const CONFLICTS: &str = "postgres: conflicts";

/// Whether the transactions of this session are read-only.
const READ_ONLY: &str = "SELECT current_setting('transaction_read_only')::boolean";

/// The values of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The rows, their records, and the outbox of each store.
pub struct PostgresRecords {
    pub(super) config: PostgresConfig,
    pub(super) pool: Pool,
    layout: Mutex<Option<Arc<Layout>>>,
    /// Entries of the bus in the same database that this process has handed out.
    pub(super) handed: Handed,
}

impl PostgresRecords {
    /// Connects to the server and checks that it takes writes. The tables need not exist yet.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) for an invalid URL, an unknown database or an insecure connection,
    /// [`Unavailable`](FaultClass::Unavailable) or [`Timeout`](FaultClass::Timeout) when the server does not answer or
    /// is a standby, [`Denied`](FaultClass::Denied) when it refuses the login.
    pub async fn connect(config: PostgresConfig) -> Result<Self, Fault> {
        let records = Self { pool: Pool::new(&config)?, config, layout: Mutex::default(), handed: Handed::default() };
        records.is_writable().await.map_err(|error| records.fault(error, "postgres: check"))?;
        Ok(records)
    }

    /// The statements that [`prepare`](chunk_sync_engine::ports::SystemOfRecord::prepare) would run now.
    ///
    /// # Errors
    /// The fault of the query when the server is unreachable; [`Misconfigured`](FaultClass::Misconfigured) when it is
    /// older than PostgreSQL 15, the database is not encoded in UTF8, or the table cannot hold every chunk.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let facts = self.facts().await.map_err(|error| error.into_fault(PREPARE))?;
        schema::statements(&self.config, &facts).map_err(|error| error.into_fault(PREPARE))
    }

    pub(super) async fn create_missing(&self) -> Result<(), Fault> {
        let mut client = self.pool.get().await.map_err(|error| error.into_fault(PREPARE))?;
        let created = self.pool.within(create_missing(&mut client, &self.config)).await;
        self.forget();
        self.pool.settle(client, created).map_err(|error| error.into_fault(PREPARE))?;
        self.layout().await.map(drop).map_err(|error| error.into_fault(PREPARE))
    }

    async fn facts(&self) -> Result<Facts, Error> {
        let client = self.pool.get().await?;
        let facts = self.pool.within(facts::look(&client, &self.config)).await;
        self.pool.settle(client, facts)
    }

    /// The statements and limits for the tables; reads the catalogue when none are cached.
    pub(super) async fn layout(&self) -> Result<Arc<Layout>, Error> {
        if let Some(layout) = &*self.known() {
            return Ok(Arc::clone(layout));
        }
        let layout = Arc::new(schema::layout(&self.config, &self.facts().await?)?);
        *self.known() = Some(Arc::clone(&layout));
        Ok(layout)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<Layout>>> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        *self.known() = None;
        self.pool.forget_statements();
    }

    /// The fault of an error. An error that the tables may have caused drops the cached layout, so that the next call
    /// reads the catalogue again.
    pub(super) fn fault(&self, error: Error, context: &'static str) -> Fault {
        let constraint = error.constraint().map(ToOwned::to_owned);
        let column = constraint.as_ref().and_then(|name| self.known().as_ref()?.constraints.get(name).cloned());
        if error.class() == FaultClass::Misconfigured || (constraint.is_some() && column.is_none()) {
            self.forget();
        }
        let fault = error.into_fault(context);
        match (column, constraint) {
            _ if fault.field.is_some() => fault,
            (Some(column), _) => fault.at(field(&column)),
            (None, Some(constraint)) => fault.at(constraint),
            (None, None) => fault,
        }
    }

    /// The picked rows and their records, read from one snapshot, with the picked ids in order.
    async fn known_of(&self, pick: Pick<'_>) -> Result<(Vec<Uuid>, HashMap<Uuid, Row>, bool), Fault> {
        let known = async {
            let layout = self.layout().await?;
            let mut client = self.pool.get().await?;
            let read = self.pool.within(read(&mut client, &layout, &self.config, pick)).await;
            self.pool.settle(client, read)
        };
        known.await.map_err(|error| self.fault(error, READ))
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<tokio_postgres::Row>, Error> {
        let client = self.pool.get().await?;
        let rows = self.pool.within(async {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query(&statement, params).await?)
        });
        let rows = rows.await;
        self.pool.settle(client, rows)
    }

    /// The first value of the first row; `None` for no row or NULL.
    pub(super) async fn value<T: FromSqlOwned>(&self, sql: &str, params: Params<'_>) -> Result<Option<T>, Error> {
        let rows = self.query(sql, params).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Runs statements without values. Several are one transaction.
    pub(super) async fn run(&self, statements: &str) -> Result<(), Error> {
        let client = self.pool.get().await?;
        let run = self.pool.within(async { Ok(client.batch_execute(statements).await?) }).await;
        self.pool.settle(client, run)
    }

    pub(super) async fn count(&self) -> Result<u64, Error> {
        let layout = self.layout().await?;
        let rows = self.query(&layout.statements.count, &[]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs())
    }

    /// Fails with [`Error::Standby`] when the server is a standby. A database that is read-only for a while may be read.
    pub(super) async fn is_writable(&self) -> Result<(), Error> {
        let rows = self.query(sql::CHECK, &[]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        match (row.try_get(0)?, row.try_get(1)?) {
            (true, _) => return Err(Error::Standby),
            (false, true) => tracing::warn!("the database is read-only; {}", super::failure::READ_ONLY),
            (false, false) => {}
        }
        Ok(())
    }

    /// Whether new sessions take no writes. Closes the idle ones that still would.
    async fn is_read_only(&self) -> Result<bool, Error> {
        if !self.query(sql::GUARD, &[]).await?.is_empty() {
            self.pool.close_idle();
            return Ok(true);
        }
        let read_only = self.value(READ_ONLY, &[]).await? == Some(true);
        if read_only {
            // A session stays read-only after the database takes writes again.
            self.pool.close_idle();
        }
        Ok(read_only)
    }
}

#[async_trait]
impl SystemOfRecord for PostgresRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        self.create_missing().await
    }

    async fn takes_writes(&self) -> Result<(), Fault> {
        match self.is_read_only().await.map_err(|error| self.fault(error, WRITES))? {
            true => {
                let message = format!("the database is read-only; {}", super::failure::READ_ONLY);
                Err(Fault::new(FaultClass::Unavailable, WRITES, message))
            }
            false => Ok(()),
        }
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        Ok(Box::new(self.begin_merge(scope).await?))
    }

    async fn locked_rows(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
        self.rows_locked_by_others(ids).await.map_err(|error| self.fault(error, READ))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        let current = async {
            let layout = self.layout().await?;
            let mut client = self.pool.get().await?;
            let read = self.pool.within(current(&mut client, &layout, &self.config, ids)).await;
            self.pool.settle(client, read)
        };
        current.await.map_err(|error| self.fault(error, READ))
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        let (ids, mut rows, is_whole) = self.known_of(Pick::Page(after, limit)).await?;
        let is_last = is_whole && ids.len() < limit;
        Ok(RowPage { rows: ids.iter().filter_map(|id| rows.remove(id)).collect(), is_last })
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let (ids, rows, _) = self.known_of(Pick::Ids(ids)).await?;
        Ok(ids.iter().map(|id| rows.get(id).cloned()).collect())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.count().await.map_err(|error| self.fault(error, "postgres: counts"))?;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }
}

#[async_trait]
impl ConflictLog for PostgresRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        self.recorded(filter, limit).await.map_err(|error| self.fault(error, CONFLICTS))
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.count_open().await.map_err(|error| self.fault(error, CONFLICTS))
    }

    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault> {
        self.bytes_of_conflicts(enough).await.map_err(|error| self.fault(error, CONFLICTS))
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.forget_settled(before, limit).await.map_err(|error| self.fault(error, CONFLICTS))
    }
}

/// Creates missing schemas, tables and the extension. A second process waits on the lock.
async fn create_missing(client: &mut Client, config: &PostgresConfig) -> Result<(), Error> {
    let mut transaction = begin(client, IsolationLevel::ReadCommitted, false).await?;
    set_locally(&transaction, config.lock_timeout).await?;
    transaction.execute(facts::LOCK, &[]).await?;
    let mut facts = facts::look(&transaction, config).await?;
    if facts.columns.is_empty() && facts.extension == Extension::Available {
        facts.extension = create_extension(&mut transaction, config).await?;
    }
    for statement in schema::statements(config, &facts)? {
        tracing::debug!(statement, "postgres: prepare");
        transaction.batch_execute(&statement).await?;
    }
    Ok(transaction.commit().await?)
}

/// Creates the extension. When the user lacks the right, vectors are stored in plain arrays and JSON.
async fn create_extension(transaction: &mut Transaction<'_>, config: &PostgresConfig) -> Result<Extension, Error> {
    let nested = transaction.transaction().await?;
    match nested.batch_execute("CREATE EXTENSION vector").await.map_err(Error::from) {
        Ok(()) => nested.commit().await?,
        Err(error) if error.class() == FaultClass::Denied => {
            nested.rollback().await?;
            tracing::warn!(%error, "no right to create the extension vector; vectors will be stored as real[] and jsonb");
            return Ok(Extension::Absent);
        }
        Err(error) => return Err(error),
    }
    Ok(facts::look(transaction, config).await?.extension)
}
