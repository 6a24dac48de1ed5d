//! Reads of rows with their records: by id, by page, and under the locks of a merge.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chunk_sync_engine::ports::{CurrentState, Row, read_together};
use chunk_sync_model::chunk::Dense;
use chunk_sync_model::{Hash, Record, State, SyncVersion, Time};
use deadpool_postgres::{Client, GenericClient, Transaction};
use futures::future::try_join;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::cell::Cell;
use super::config::PostgresConfig;
use super::decode::decode;
use super::fault::Error;
use super::reserved::{self, Copies};
use super::row::{COLUMNS, Further, RowImage};
use super::schema::Layout;
use super::sql;
use super::transaction::{begin, digest, limit_of, set_locally, version};

/// The rows to read.
pub(super) enum Pick<'a> {
    Ids(&'a [Uuid]),
    Page(Option<Uuid>, usize),
}

/// Reads rows and records from one snapshot. Returns the first of the picked ids, as many as are read together, by id those
/// that exist, and whether these are all that were picked.
pub(super) async fn read(
    client: &mut Client,
    layout: &Layout,
    config: &PostgresConfig,
    pick: Pick<'_>,
) -> Result<(Vec<Uuid>, HashMap<Uuid, Row>, bool), Error> {
    let snapshot = begin(client, IsolationLevel::RepeatableRead, true).await?;
    set_locally(&snapshot, config.lock_timeout).await?;
    let ids = match pick {
        Pick::Ids(ids) => ids.to_vec(),
        Pick::Page(after, limit) => page(&snapshot, layout, after, limit).await?,
    };
    let versions = snapshot.prepare_cached(sql::VERSIONS).await?;
    let lengths = lengths(&snapshot, layout, &ids).await?;
    let is_oversize = |id: &Uuid| lengths.get(id).is_some_and(|length| *length > config.limits.row_max_bytes);
    let fits = read_together(ids.iter().map(|id| lengths.get(id).copied().filter(|_| !is_oversize(id)).unwrap_or(0)));
    let (is_whole, ids) = (fits == ids.len(), ids[..fits].to_vec());
    let oversize: HashSet<Uuid> = ids.iter().copied().filter(is_oversize).collect();
    let readable: Vec<Uuid> = ids.iter().copied().filter(|id| !is_oversize(id)).collect();
    // A row without times reads as the epoch, always the same, until a merge gives it times.
    let states = read_states(&snapshot, &layout.statements.rows, config, &readable, Time::from_micros(0), None);
    let (states, versions) = try_join(states, async { Ok(snapshot.query(&versions, &[&ids]).await?) }).await?;
    snapshot.commit().await?;
    let unrecorded = |id, state| Row {
        id,
        version: SyncVersion::default(),
        lives: None,
        seen: None,
        state,
        oversize: oversize.contains(&id),
    };
    let mut rows: HashMap<Uuid, Row> = oversize.iter().map(|id| (*id, unrecorded(*id, None))).collect();
    rows.extend(states.into_iter().map(|(id, held)| (id, unrecorded(id, Some(held.state)))));
    for record in versions {
        let id = record.try_get(0)?;
        let row = rows.entry(id).or_insert_with(|| unrecorded(id, None));
        row.version = version(record.try_get(1)?);
        row.lives = Some(record.try_get(2)?);
        row.seen = digest(&record, 3)?;
    }
    Ok((ids, rows, is_whole))
}

/// The lengths of the rows, in bytes, by id.
async fn lengths(snapshot: &Transaction<'_>, layout: &Layout, ids: &[Uuid]) -> Result<HashMap<Uuid, usize>, Error> {
    let rows = snapshot.query(&snapshot.prepare_cached(&layout.statements.lengths).await?, &[&ids]).await?;
    let length = |row: &tokio_postgres::Row| {
        Ok((row.try_get(0)?, usize::try_from(row.try_get::<_, i64>(1)?).unwrap_or(usize::MAX)))
    };
    rows.iter().map(length).collect()
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
pub(super) async fn current(
    client: &mut Client,
    layout: &Layout,
    config: &PostgresConfig,
    ids: &[Uuid],
) -> Result<Vec<CurrentState>, Error> {
    let snapshot = begin(client, IsolationLevel::RepeatableRead, true).await?;
    set_locally(&snapshot, config.lock_timeout).await?;
    let records = snapshot.prepare_cached(sql::RECORDS_SNAPSHOT).await?;
    let lengths = lengths(&snapshot, layout, ids).await?;
    let ids = &ids[..read_together(ids.iter().map(|id| lengths.get(id).copied().unwrap_or(0)))];
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

pub(super) async fn page(
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
    let images = images(&rows, &further)?;
    let recorded = match copies {
        Some(_) => Copies::new(),
        None => {
            let missing: Vec<Uuid> = images.iter().filter(|row| reserved::is_missing(row)).map(|row| row.id).collect();
            reserved::copies(client, &missing).await?
        }
    };
    Ok(decode_states(images, copies.unwrap_or(&recorded), config, at))
}

/// The rows as read, each with its further vectors.
pub(super) fn images(rows: &[tokio_postgres::Row], further: &[tokio_postgres::Row]) -> Result<Vec<RowImage>, Error> {
    let mut vectors: HashMap<Uuid, Vec<Further>> = HashMap::new();
    for row in further {
        vectors.entry(row.try_get(0)?).or_default().push(further_of(row)?);
    }
    let with_further = |row| {
        let mut image = image(row)?;
        image.further = vectors.remove(&image.id).unwrap_or_default();
        image.further.sort_by(|a, b| (a.alternative, &a.dense.model).cmp(&(b.alternative, &b.dense.model)));
        Ok(image)
    };
    rows.iter().map(with_further).collect()
}

/// The states of the rows, by id. Rows without the reserved key get that of `copies`.
pub(super) fn decode_states(
    images: Vec<RowImage>,
    copies: &Copies,
    config: &PostgresConfig,
    at: Time,
) -> HashMap<Uuid, HeldRow> {
    let mut states = HashMap::with_capacity(images.len());
    for mut image in images {
        let lacks_rest = reserved::is_missing(&image);
        let copy = copies.get(&image.id).filter(|_| lacks_rest);
        if let Some(copy) = copy {
            reserved::fill(&mut image, copy);
        }
        let lost_rest = copy.is_some_and(|copy| !copy.stripped);
        let (id, further) = (image.id, image.further.clone());
        let decoded = decode(image, &config.limits, at);
        let (state, defaults) = (Arc::new(decoded.state), decoded.defaults);
        states.insert(id, HeldRow { state, defaults, lacks_rest, lost_rest, further });
    }
    states
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
