//! The records and the outbox, and reads of rows with their records. [`super::merge`] writes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    ConflictFilter, ConflictLog, ConflictRecord, Counts, CurrentState, Fault, FaultClass, MergeScope, MergeTransaction,
    Outbox, PendingWrite, Row, SystemOfRecord,
};
use chunk_sync_model::chunk::Dense;
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use deadpool_postgres::{Client, GenericClient, Transaction};
use futures::future::try_join;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::bus::handed::Handed;
use super::cell::Cell;
use super::config::PostgresConfig;
use super::decode::decode;
use super::fault::{Error, field};
use super::pool::Pool;
use super::reserved::{self, Copies};
use super::row::{COLUMNS, Further, RowImage};
use super::schema::{self, Extension, Facts, Layout};
use super::sql;
use super::transaction::{begin, digest, limit_of, set_locally, version};

const PREPARE: &str = "postgres: prepare";
const READ: &str = "postgres: read";
const PENDING_WRITES: &str = "postgres: outbox";
const CONFLICTS: &str = "postgres: conflicts";

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
        let facts = self.pool.within(schema::look(&client, &self.config)).await;
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
    async fn known_of(&self, pick: Pick<'_>) -> Result<(Vec<Uuid>, HashMap<Uuid, Row>), Fault> {
        let known = async {
            let layout = self.layout().await?;
            let mut client = self.pool.get().await?;
            let read = self.pool.within(read(&mut client, &layout, &self.config, pick)).await;
            self.pool.settle(client, read)
        };
        known.await.map_err(|error| self.fault(error, READ))
    }

    async fn with_outbox(&self, sql: &str, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let work = async {
            let client = self.pool.get().await?;
            let done = self.pool.within(on_outbox(&client, sql, pending_writes)).await;
            self.pool.settle(client, done)
        };
        work.await.map_err(|error| self.fault(error, PENDING_WRITES))
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        let client = self.pool.get().await?;
        let rows = self.pool.within(async {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query(&statement, params).await?)
        });
        let rows = rows.await;
        self.pool.settle(client, rows)
    }

    /// The first value of the first row as text; `None` for no row or NULL.
    pub(super) async fn ask(&self, sql: &str) -> Result<Option<String>, Error> {
        let client = self.pool.get().await?;
        let rows = self.pool.within(async { Ok(client.simple_query(sql).await?) }).await;
        let rows = self.pool.settle(client, rows)?;
        Ok(rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
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
    pub(super) async fn is_read_only(&self) -> Result<bool, Error> {
        if self.ask(sql::GUARD).await?.is_some() {
            self.pool.close_idle();
            return Ok(true);
        }
        let read_only = self.ask("SELECT current_setting('transaction_read_only')").await?.as_deref() == Some("on");
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

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        let (ids, mut rows) = self.known_of(Pick::Page(after, limit)).await?;
        Ok(ids.iter().filter_map(|id| rows.remove(id)).collect())
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let (ids, rows) = self.known_of(Pick::Ids(ids)).await?;
        Ok(ids.iter().map(|id| rows.get(id).cloned()).collect())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.count().await.map_err(|error| self.fault(error, "postgres: counts"))?;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }
}

#[async_trait]
impl Outbox for PostgresRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.with_outbox(sql::ENQUEUE, pending_writes).await
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        let rows = self.query(sql::PENDING_WRITES, &[&target.as_str(), &limit_of(limit)]).await;
        let read = |row: &tokio_postgres::Row| {
            Ok(PendingWrite { id: row.try_get(0)?, target, version: version(row.try_get(1)?) })
        };
        let pending_writes = rows.and_then(|rows| rows.iter().map(read).collect::<Result<_, Error>>());
        pending_writes.map_err(|error| self.fault(error, PENDING_WRITES))
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.with_outbox(sql::DRAINED, pending_writes).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        let rows = self.query(sql::OUTBOX_COUNTS, &[]).await.map_err(|error| self.fault(error, PENDING_WRITES))?;
        let mut counts: BTreeMap<Target, u64> = Target::ALL.into_iter().map(|target| (target, 0)).collect();
        for row in rows {
            let read = |row: &tokio_postgres::Row| Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
            let (name, count): (String, i64) = read(&row).map_err(|error| self.fault(error.into(), PENDING_WRITES))?;
            if let Some(target) = Target::ALL.into_iter().find(|target| target.as_str() == name) {
                counts.insert(target, count.unsigned_abs());
            }
        }
        Ok(counts)
    }
}

#[async_trait]
impl ConflictLog for PostgresRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault> {
        self.recorded(filter, limit).await.map_err(|error| self.fault(error, CONFLICTS))
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.count_open().await.map_err(|error| self.fault(error, CONFLICTS))
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.forget_settled(before, limit).await.map_err(|error| self.fault(error, CONFLICTS))
    }
}

/// Creates missing schemas, tables and the extension. A second process waits on the lock.
async fn create_missing(client: &mut Client, config: &PostgresConfig) -> Result<(), Error> {
    let mut transaction = begin(client, IsolationLevel::ReadCommitted, false).await?;
    set_locally(&transaction, config.lock_timeout).await?;
    transaction.execute(schema::LOCK, &[]).await?;
    let mut facts = schema::look(&transaction, config).await?;
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
    Ok(schema::look(transaction, config).await?.extension)
}

/// The rows to read.
enum Pick<'a> {
    Ids(&'a [Uuid]),
    Page(Option<Uuid>, usize),
}

/// Reads rows and records from one snapshot. Returns the picked ids and, by id, those that exist.
async fn read(
    client: &mut Client,
    layout: &Layout,
    config: &PostgresConfig,
    pick: Pick<'_>,
) -> Result<(Vec<Uuid>, HashMap<Uuid, Row>), Error> {
    let snapshot = begin(client, IsolationLevel::RepeatableRead, true).await?;
    set_locally(&snapshot, config.lock_timeout).await?;
    let ids = match pick {
        Pick::Ids(ids) => ids.to_vec(),
        Pick::Page(after, limit) => page(&snapshot, layout, after, limit).await?,
    };
    let versions = snapshot.prepare_cached(sql::VERSIONS).await?;
    // A row without times reads as the epoch, always the same, until a merge gives it times.
    let states = read_states(&snapshot, &layout.statements.rows, config, &ids, Time::from_micros(0), None);
    let (states, versions) = try_join(states, async { Ok(snapshot.query(&versions, &[&ids]).await?) }).await?;
    snapshot.commit().await?;
    let mut rows = HashMap::new();
    for (id, held) in states {
        let state = Some(held.state);
        rows.insert(id, Row { id, version: SyncVersion::default(), lives: None, seen: None, state });
    }
    for record in versions {
        let id = record.try_get(0)?;
        let none = Row { id, version: SyncVersion::default(), lives: None, seen: None, state: None };
        let row = rows.entry(id).or_insert(none);
        row.version = version(record.try_get(1)?);
        row.lives = Some(record.try_get(2)?);
        row.seen = digest(&record, 3)?;
    }
    Ok((ids, rows))
}

/// The records with the digests of their rows, by id.
pub(super) fn decode_records(rows: &[tokio_postgres::Row]) -> Result<HashMap<Uuid, (Record, Option<Hash>)>, Error> {
    let mut records = HashMap::with_capacity(rows.len());
    for row in rows {
        let id: Uuid = row.try_get(0)?;
        let record = Record::decode(row.try_get(1)?).map_err(|error| Error::Record(id, error))?;
        records.insert(id, (record, digest(row, 2)?));
    }
    Ok(records)
}

/// Rows and records in the order of `ids`, from one snapshot.
async fn current(
    client: &mut Client,
    layout: &Layout,
    config: &PostgresConfig,
    ids: &[Uuid],
) -> Result<Vec<CurrentState>, Error> {
    let snapshot = begin(client, IsolationLevel::RepeatableRead, true).await?;
    set_locally(&snapshot, config.lock_timeout).await?;
    let records = snapshot.prepare_cached(sql::RECORDS_SNAPSHOT).await?;
    let states = read_states(&snapshot, &layout.statements.rows, config, ids, Time::from_micros(0), None);
    let (mut states, records) = try_join(states, async { Ok(snapshot.query(&records, &[&ids]).await?) }).await?;
    snapshot.commit().await?;
    let mut records = decode_records(&records)?;
    let one = |id: &Uuid| {
        let state = states.remove(id).map(|held| held.state);
        let (record, row) = records.remove(id).map_or((None, None), |(record, row)| (Some(record), row));
        CurrentState { record, state, row, absence: None }
    };
    Ok(ids.iter().map(one).collect())
}

async fn page(
    snapshot: &Transaction<'_>,
    layout: &Layout,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Uuid>, Error> {
    let statements = &layout.statements;
    let limit = limit_of(limit);
    let rows = match after {
        None => snapshot.query(&snapshot.prepare_cached(&statements.ids).await?, &[&limit]).await?,
        Some(after) => {
            snapshot.query(&snapshot.prepare_cached(&statements.ids_after).await?, &[&limit, &after]).await?
        }
    };
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// A row as stored and as a state.
pub(super) struct HeldRow {
    pub(super) state: Arc<State>,
    /// The columns for which the state has a default because the row has no value.
    pub(super) defaults: Vec<&'static str>,
    /// Whether the metadata of the row lack the service's own key.
    pub(super) lacks_rest: bool,
    /// Whether another program removed that key, and a merge is to put it back.
    pub(super) lost_rest: bool,
    pub(super) further: Vec<Further>,
}

impl HeldRow {
    /// Whether the row has no times: the defaults differ with every read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.defaults.iter().any(|name| ["created_at", "updated_at"].contains(name))
    }
}

/// The rows of these ids, by id. `rows` is the statement that reads them; `at` is the default for missing times. Rows
/// without the reserved key get that of `copies`, else of their records.
pub(super) async fn read_states(
    client: &impl GenericClient,
    rows: &str,
    config: &PostgresConfig,
    ids: &[Uuid],
    at: Time,
    copies: Option<&Copies>,
) -> Result<HashMap<Uuid, HeldRow>, Error> {
    let (rows, further) = (client.prepare_cached(rows).await?, client.prepare_cached(sql::FURTHER).await?);
    let (rows, further) = try_join(client.query(&rows, &[&ids]), client.query(&further, &[&ids])).await?;
    let mut vectors: HashMap<Uuid, Vec<Further>> = HashMap::new();
    for row in &further {
        vectors.entry(row.try_get(0)?).or_default().push(further_of(row)?);
    }
    let images: Vec<RowImage> = rows.iter().map(image).collect::<Result<_, _>>()?;
    let recorded = match copies {
        Some(_) => Copies::new(),
        None => {
            let missing: Vec<Uuid> = images.iter().filter(|row| reserved::is_missing(row)).map(|row| row.id).collect();
            reserved::copies(client, &missing).await?
        }
    };
    let copies = copies.unwrap_or(&recorded);
    let mut states = HashMap::with_capacity(images.len());
    for mut image in images {
        let lacks_rest = reserved::is_missing(&image);
        let copy = copies.get(&image.id).filter(|_| lacks_rest);
        if let Some(copy) = copy {
            reserved::fill(&mut image, copy);
        }
        let lost_rest = copy.is_some_and(|copy| !copy.stripped);
        image.further = vectors.remove(&image.id).unwrap_or_default();
        image.further.sort_by(|a, b| (a.alternative, &a.dense.model).cmp(&(b.alternative, &b.dense.model)));
        let (id, further) = (image.id, image.further.clone());
        let decoded = decode(image, &config.limits, at);
        let (state, defaults) = (Arc::new(decoded.state), decoded.defaults);
        states.insert(id, HeldRow { state, defaults, lacks_rest, lost_rest, further });
    }
    Ok(states)
}

fn image(row: &tokio_postgres::Row) -> Result<RowImage, Error> {
    let cells: Vec<Cell> = (1..=COLUMNS.len()).map(|place| row.try_get(place)).collect::<Result<_, _>>()?;
    Ok(RowImage::from_cells(row.try_get(0)?, cells))
}

fn further_of(row: &tokio_postgres::Row) -> Result<Further, Error> {
    let made_at = match row.try_get(4)? {
        Cell::Time(time) => Some(time),
        _ => None,
    };
    let dense = Dense { model: row.try_get(1)?, vector: row.try_get::<_, Vec<f32>>(3)?.into(), timestamp: made_at };
    Ok(Further { alternative: row.try_get(2)?, dense })
}

/// Runs a statement on outbox entries. Its parameters are ids, targets and versions, sorted in the order in which every
/// transaction locks the entries.
pub(super) async fn on_outbox(
    client: &impl GenericClient,
    sql: &str,
    pending_writes: &[PendingWrite],
) -> Result<(), Error> {
    if pending_writes.is_empty() {
        return Ok(());
    }
    let mut sorted: BTreeMap<(Uuid, &str), i64> = BTreeMap::new();
    for pending_write in pending_writes {
        let version = sorted.entry((pending_write.id, pending_write.target.as_str())).or_default();
        *version = pending_write.version.signed().max(*version);
    }
    let (keys, versions): (Vec<(Uuid, &str)>, Vec<i64>) = sorted.into_iter().unzip();
    let (ids, targets): (Vec<Uuid>, Vec<&str>) = keys.into_iter().unzip();
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&ids, &targets, &versions]).await?;
    Ok(())
}
