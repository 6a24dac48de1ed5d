//! The conflict records. Each is written in the transaction of its row.

use chunk_sync_engine::ports::{
    CONFLICT_PAGE_BYTES, Commit, ConflictFilter, ConflictPage, ConflictRecord, NewConflict, Resolution,
};
use chunk_sync_model::merge::{Conflict, Strategy};
use chunk_sync_model::{Time, Writer};
use uuid::Uuid;

use super::cell::{Cell, FromCell};
use super::fault::Error;
use super::flight::{Flight, Parameter};
use super::records::PostgresRecords;
use super::sql;
use super::transaction::{limit_of, version};

/// Changes of a transaction to the conflict records, as columns of parameters.
#[derive(Default)]
pub(super) struct Entries {
    closed: ClosedColumns,
    noted: MetColumns,
}

/// Parts whose open conflicts are closed.
#[derive(Default)]
struct ClosedColumns {
    chunks: Vec<Uuid>,
    parts: Vec<String>,
    at: Vec<Cell>,
    by: Vec<&'static str>,
}

/// New conflicts.
#[derive(Default)]
struct MetColumns {
    chunks: Vec<Uuid>,
    at: Vec<Cell>,
    parts: Vec<String>,
    kinds: Vec<&'static str>,
    strategies: Vec<String>,
    outcomes: Vec<&'static str>,
    sources: Vec<Option<&'static str>>,
    targets: Vec<Option<&'static str>>,
    versions: Vec<i64>,
    conflicts: Vec<String>,
    closed_at: Vec<Cell>,
    closed_by: Vec<Option<&'static str>>,
}

impl Entries {
    pub(super) fn add(&mut self, commit: &Commit) {
        for decided in &commit.decided {
            let columns = &mut self.closed;
            columns.chunks.push(commit.id);
            columns.parts.push(decided.part.to_string());
            columns.at.push(decided.closed.at.into());
            columns.by.push(decided.closed.by.as_str());
        }
        commit.conflicts.iter().for_each(|noted| self.noted.add(commit.id, noted));
    }

    pub(super) fn add_to(self, flight: &mut Flight) {
        let Self { closed, noted } = self;
        if !closed.chunks.is_empty() {
            let ClosedColumns { chunks, parts, at, by } = closed;
            let columns: Vec<Parameter> = vec![Box::new(chunks), Box::new(parts), Box::new(at), Box::new(by)];
            flight.add(sql::CLOSE_CONFLICTS, columns);
        }
        if !noted.chunks.is_empty() {
            flight.add(sql::ADD_CONFLICTS, noted.into_parameters());
        }
    }
}

impl MetColumns {
    fn add(&mut self, chunk: Uuid, noted: &NewConflict) {
        let conflict = &noted.conflict;
        let writer = |writer: Option<Writer>| writer.map(Writer::as_str);
        self.chunks.push(chunk);
        self.at.push(noted.at.into());
        self.parts.push(conflict.part.to_string());
        self.kinds.push(conflict.kind.as_str());
        self.strategies.push(conflict.strategy.to_string());
        self.outcomes.push(conflict.outcome.as_str());
        self.sources.push(writer(conflict.source.writer));
        self.targets.push(writer(conflict.target.writer));
        self.versions.push(noted.sync_version.signed());
        self.conflicts.push(conflict.to_json());
        self.closed_at.push(noted.closed.map(|closed| closed.at).into());
        self.closed_by.push(writer(noted.closed.map(|closed| closed.by)));
    }

    fn into_parameters(self) -> Vec<Parameter> {
        vec![
            Box::new(self.chunks),
            Box::new(self.at),
            Box::new(self.parts),
            Box::new(self.kinds),
            Box::new(self.strategies),
            Box::new(self.outcomes),
            Box::new(self.sources),
            Box::new(self.targets),
            Box::new(self.versions),
            Box::new(self.conflicts),
            Box::new(self.closed_at),
            Box::new(self.closed_by),
        ]
    }
}

impl PostgresRecords {
    pub(super) async fn recorded(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Error> {
        let kind = filter.kind.map(|kind| kind.as_str());
        let strategy = filter.strategy.as_ref().map(Strategy::to_string);
        let outcome = filter.outcome.map(|outcome| outcome.as_str());
        let writer = filter.writer.map(Writer::as_str);
        let since = Cell::from(filter.since);
        let below = filter.below.map(|id| i64::try_from(id).unwrap_or(i64::MAX));
        let (limit, bytes) = (limit_of(limit), limit_of(CONFLICT_PAGE_BYTES));
        let rows = self
            .query(
                sql::CONFLICTS,
                &[&filter.chunk, &kind, &strategy, &outcome, &writer, &filter.open, &since, &below, &limit, &bytes],
            )
            .await?;
        let more = rows.last().map_or(Ok(false), |row| row.try_get(7))?;
        Ok(ConflictPage { entries: rows.iter().map(entry).collect::<Result<_, _>>()?, more })
    }

    pub(super) async fn count_open(&self) -> Result<u64, Error> {
        let rows = self.query(sql::OPEN_CONFLICTS, &[]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs())
    }

    pub(super) async fn bytes_of_conflicts(&self, enough: u64) -> Result<u64, Error> {
        let enough = i64::try_from(enough).unwrap_or(i64::MAX);
        let rows = self.query(sql::CONFLICT_BYTES, &[&enough]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs())
    }

    pub(super) async fn forget_settled(&self, before: Time, limit: usize) -> Result<u64, Error> {
        let (before, limit) = (Cell::from(before), limit_of(limit));
        let removed = self.query(sql::FORGET_CONFLICTS, &[&before, &limit]).await?;
        Ok(removed.len() as u64)
    }
}

fn entry(row: &tokio_postgres::Row) -> Result<ConflictRecord, Error> {
    let id = row.try_get::<_, i64>(0)?.unsigned_abs();
    let conflict = Conflict::from_json(row.try_get(4)?).map_err(|error| Error::Conflict(id, error.to_string()))?;
    let time = |column: usize| Ok::<_, Error>(Time::from_cell(row.try_get::<_, Cell>(column)?));
    let by =
        row.try_get::<_, Option<&str>>(6)?.map(str::parse).transpose().map_err(|error| Error::Conflict(id, error))?;
    let closed = time(5)?.zip(by).map(|(at, by)| Resolution { at, by });
    let at = time(2)?.unwrap_or_else(|| Time::from_micros(0));
    let noted = NewConflict { at, sync_version: version(row.try_get(3)?), closed, conflict };
    Ok(ConflictRecord { id, chunk: row.try_get(1)?, noted })
}
