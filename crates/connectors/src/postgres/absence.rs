//! The notes on absent rows: `chunk_sync.absent`, and `chunk_sync.absence_deletions` for the deletions that comparisons
//! decided. A merge reads and writes the notes of its chunks in its own transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsenceNote, AbsentRow, Approval, Commit, Deletions, Fault, Fence,
    NoteChange, Position, RecordedTable, Suspicion, Verdict,
};
use chunk_sync_model::Time;
use deadpool_postgres::{Client, GenericClient};
use tokio_postgres::types::{PgLsn, ToSql};
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::cell::{Cell, FromCell as _};
use super::fault::Error;
use super::flight::Flight;
use super::recorded_table;
use super::records::PostgresRecords;
use super::transaction::{begin, execute, limit_of, set_locally};

const CONTEXT: &str = "postgres: absent rows";

/// The notes of the chunks of a merge.
pub(super) const NOTES: &str =
    "SELECT chunk_id, newest_change, approved_at IS NOT NULL FROM chunk_sync.absent WHERE chunk_id = ANY($1)";

const NOTE_IN_MERGE: &str = "INSERT INTO chunk_sync.absent (chunk_id, cause, noted_at, newest_change) \
    SELECT id, 'merge', noted, changed FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) \
        AS n (id, changed, noted) ORDER BY id \
    ON CONFLICT (chunk_id) DO UPDATE SET newest_change = coalesce(absent.newest_change, excluded.newest_change)";

const REMOVE: &str = "DELETE FROM chunk_sync.absent WHERE chunk_id = ANY($1)";

const COUNT_DELETIONS: &str = "INSERT INTO chunk_sync.absence_deletions (chunk_id, deleted_at) \
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) ON CONFLICT DO NOTHING";

/// Only living chunks are noted, in one order, so that two processes never deadlock. A candidate replaces a note that is
/// none.
const NOTE: &str = "INSERT INTO chunk_sync.absent (chunk_id, cause, noted_at) \
    SELECT id, $2::text, $3::timestamptz FROM chunk_sync.records WHERE id = ANY($1) AND lives ORDER BY id \
    ON CONFLICT (chunk_id) DO UPDATE SET cause = excluded.cause, noted_at = excluded.noted_at \
    WHERE $4 AND NOT absent.cause = ANY($5)";

const READ: &str = "SELECT chunk_id, cause, noted_at, position, confirmed, approved_at IS NOT NULL \
    FROM chunk_sync.absent WHERE $1::uuid IS NULL OR chunk_id > $1 ORDER BY chunk_id LIMIT $2";

const CONFIRM: &str = "UPDATE chunk_sync.absent SET confirmed = true WHERE chunk_id = ANY($1) AND cause = ANY($2)";

/// In one order, so that two processes never deadlock.
const SEEN: &str = "UPDATE chunk_sync.absent SET noted_at = $2, confirmed = false, approved_at = NULL \
    FROM (SELECT chunk_id AS id FROM chunk_sync.absent WHERE chunk_id = ANY($1) ORDER BY chunk_id FOR UPDATE) AS seen \
    WHERE chunk_id = seen.id";

const FORGET: &str = "DELETE FROM chunk_sync.absent WHERE chunk_id = ANY($1) AND approved_at IS NULL";

/// Of several processes that approve at the same time, the later one counts what the earlier one approved.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('chunk_sync: deletions by comparison', 0))";

/// One statement, so one snapshot: a deletion is counted as approved or as deleted, never as neither. The living chunks
/// are counted only if they are needed.
const DELETIONS: &str = "WITH noted AS (SELECT \
        count(*) FILTER (WHERE confirmed AND approved_at IS NULL AND cause = ANY($1)) AS confirmed, \
        count(*) FILTER (WHERE approved_at IS NOT NULL) AS approved FROM chunk_sync.absent) \
    SELECT confirmed, approved + (SELECT count(*) FROM chunk_sync.absence_deletions \
        WHERE deleted_at > $2::timestamptz - interval '24 hours'), \
    CASE WHEN confirmed > 0 THEN (SELECT count(*) FROM chunk_sync.records WHERE lives) ELSE 0 END FROM noted";

const APPROVE: &str = "UPDATE chunk_sync.absent SET approved_at = $2 \
    WHERE confirmed AND approved_at IS NULL AND cause = ANY($1)";

const TIDY: &str = "DELETE FROM chunk_sync.absence_deletions WHERE deleted_at < $1::timestamptz - interval '7 days'";

/// A row is hidden if capture has confirmed a position after the note: the deletion would have been merged by then. A gap
/// makes the notes candidates before it is closed.
const COUNTS: &str = "SELECT count(*), count(*) FILTER (WHERE cause = ANY($1)), \
    count(*) FILTER (WHERE NOT cause = ANY($1) AND position < (SELECT max(p.position) FROM chunk_sync.positions p \
        WHERE p.gap IS NULL)) FROM chunk_sync.absent WHERE EXISTS (SELECT FROM chunk_sync.records r \
        WHERE r.id = chunk_id AND r.lives)";

/// The causes that are candidates, by name.
fn candidates() -> Vec<&'static str> {
    AbsenceCause::ALL.into_iter().filter(|cause| cause.is_candidate()).map(AbsenceCause::as_str).collect()
}

fn timestamp(time: Time) -> Cell {
    time.into()
}

/// The notes of the chunks of a merge, by id.
pub(super) fn notes(rows: &[Row]) -> Result<HashMap<Uuid, AbsenceNote>, Error> {
    let note = |row: &Row| {
        let newest_change = Time::from_cell(row.try_get::<_, Cell>(1)?);
        Ok((row.try_get(0)?, AbsenceNote { newest_change, approved: row.try_get(2)? }))
    };
    rows.iter().map(note).collect()
}

/// Adds the statements that write what the commits do to the notes of their chunks.
pub(super) fn add_notes(flight: &mut Flight, commits: &[Commit]) {
    let mut noted = (Vec::new(), Vec::new(), Vec::new());
    let (mut removed, mut deleted) = (Vec::new(), (Vec::new(), Vec::new()));
    for commit in commits {
        match commit.absence {
            NoteChange::Keep => {}
            NoteChange::Note { newest, at } => {
                noted.0.push(commit.id);
                noted.1.push(timestamp(newest));
                noted.2.push(timestamp(at));
            }
            NoteChange::Remove => removed.push(commit.id),
            NoteChange::Deleted(at) => {
                removed.push(commit.id);
                deleted.0.push(commit.id);
                deleted.1.push(timestamp(at));
            }
        }
    }
    if !noted.0.is_empty() {
        flight.add(NOTE_IN_MERGE, vec![Box::new(noted.0), Box::new(noted.1), Box::new(noted.2)]);
    }
    if !deleted.0.is_empty() {
        flight.add(COUNT_DELETIONS, vec![Box::new(deleted.0), Box::new(deleted.1)]);
    }
    if !removed.is_empty() {
        flight.add(REMOVE, vec![Box::new(removed)]);
    }
}

#[async_trait]
impl AbsenceLog for PostgresRecords {
    fn is_captured(&self) -> bool {
        true
    }

    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let (at, candidates) = (timestamp(at), candidates());
        self.on_notes(NOTE, &[&ids, &cause.as_str(), &at, &cause.is_candidate(), &candidates]).await.map(drop)
    }

    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault> {
        let rows = self.on_notes(READ, &[&after, &limit_of(limit)]).await?;
        rows.iter().map(absent_row).collect::<Result<_, _>>().map_err(|error| self.fault(error, CONTEXT))
    }

    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        self.on_notes(CONFIRM, &[&ids, &candidates()]).await.map(drop)
    }

    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        self.on_notes(SEEN, &[&ids, &timestamp(at)]).await.map(drop)
    }

    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        self.on_notes(FORGET, &[&ids]).await.map(drop)
    }

    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault> {
        let approved = async {
            let mut client = self.pool.get().await?;
            let approved = self.pool.within(Box::pin(self.approve_on(&mut client, approval))).await;
            self.pool.settle(client, approved)
        };
        approved.await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault> {
        let counted = async {
            let client = self.pool.get().await?;
            let counted = self.pool.within(Box::pin(counts(&client, at))).await;
            self.pool.settle(client, counted)
        };
        counted.await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn check_table(&self) -> Result<RecordedTable, Fault> {
        self.compare_table().await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn suspicion(&self) -> Result<Option<Suspicion>, Fault> {
        self.recorded_suspicion().await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn suspect(&self, suspicion: &Suspicion, fence: &Fence) -> Result<(), Fault> {
        self.write_suspicion(suspicion, fence).await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn record_table(&self, adopt: bool) -> Result<(), Fault> {
        self.write_table(adopt).await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn record_partitions(&self, partitions: &[u32]) -> Result<(), Fault> {
        self.on_notes(recorded_table::RECORD_PARTITIONS, &[&partitions]).await.map(drop)
    }

    async fn note_heartbeat(&self, value: Uuid) -> Result<(), Fault> {
        self.on_notes(recorded_table::BEAT, &[&value]).await?;
        self.on_notes(recorded_table::FORGET_BEATS, &[]).await.map(drop)
    }

    async fn has_heartbeat(&self, value: Uuid) -> Result<bool, Fault> {
        Ok(!self.on_notes(recorded_table::HAS_BEAT, &[&value]).await?.is_empty())
    }
}

impl PostgresRecords {
    async fn on_notes(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.query(sql, parameters).await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn approve_on(&self, client: &mut Client, approval: Approval) -> Result<Verdict, Error> {
        let transaction = begin(client, IsolationLevel::ReadCommitted, false).await?;
        set_locally(&transaction, self.config.lock_timeout).await?;
        execute(&transaction, LOCK, &[]).await?;
        if let Some(suspicion) = recorded_table::suspicion(&transaction, &self.config).await? {
            return Ok(Verdict::Suspended(suspicion));
        }
        let (at, candidates) = (timestamp(approval.at), candidates());
        let deletions = deletions(&transaction, &candidates, &at).await?;
        if !approval.forced && !deletions.within(approval.max_deletes) {
            return Ok(Verdict::OverLimit(deletions));
        }
        if deletions.confirmed > 0 {
            execute(&transaction, APPROVE, &[&candidates, &at]).await?;
        }
        execute(&transaction, TIDY, &[&at]).await?;
        transaction.commit().await?;
        Ok(Verdict::Approved(deletions))
    }
}

async fn deletions(client: &impl GenericClient, candidates: &[&'static str], at: &Cell) -> Result<Deletions, Error> {
    let row = client.query_one(DELETIONS, &[&candidates, at]).await?;
    let count = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(Deletions { confirmed: count(0)?, recent: count(1)?, living: count(2)? })
}

async fn counts(client: &impl GenericClient, at: Time) -> Result<AbsenceCounts, Error> {
    let candidates = candidates();
    let row = client.query_one(COUNTS, &[&candidates]).await?;
    let count = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
    let deletions = deletions(client, &candidates, &timestamp(at)).await?;
    Ok(AbsenceCounts { noted: count(0)?, candidates: count(1)?, hidden: count(2)?, deletions })
}

fn absent_row(row: &Row) -> Result<AbsentRow, Error> {
    let name: String = row.try_get(1)?;
    let cause = AbsenceCause::parse(&name)
        .ok_or_else(|| Error::Setup(format!("cannot parse the cause in chunk_sync.absent: `{name}`")))?;
    Ok(AbsentRow {
        id: row.try_get(0)?,
        cause,
        noted_at: Time::from_cell(row.try_get::<_, Cell>(2)?).unwrap_or_else(|| Time::from_micros(0)),
        position: Position(row.try_get::<_, PgLsn>(3)?.into()),
        confirmed: row.try_get(4)?,
        approved: row.try_get(5)?,
    })
}
