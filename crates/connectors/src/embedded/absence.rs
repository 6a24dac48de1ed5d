//! The notes on absent rows in SQLite. No log captures the rows of the embedded file, so a row that another program
//! deleted is only found by a comparison.

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsentRow, Approval, Deletions, Fault, Position, Verdict,
};
use chunk_sync_model::Time;
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::database::Durability;
use super::fault::Error;
use super::rows::Rows;
use super::values::limit_of;

const CONTEXT: &str = "embedded rows: absent rows";

/// 24 hours in microseconds: deletions count for so long.
const DAY: i64 = 24 * 3600 * 1_000_000;

#[async_trait]
impl AbsenceLog for Rows {
    fn is_captured(&self) -> bool {
        false
    }

    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let sql = "INSERT INTO absent (id, cause, noted_at) SELECT id, ?2, ?3 FROM records WHERE id = ?1 AND lives
                ON CONFLICT (id) DO UPDATE SET cause = excluded.cause, noted_at = excluded.noted_at
                WHERE ?4 AND absent.cause NOT IN ('missed', 'truncated')";
            let mut statement = transaction.prepare_cached(sql)?;
            for id in &ids {
                statement.execute(params![id, cause.as_str(), at.micros(), cause.is_candidate()])?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }

    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT id, cause, noted_at, confirmed, approved FROM absent WHERE ?1 IS NULL OR id > ?1
                ORDER BY id LIMIT ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map(params![after, limit_of(limit)], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            rows.map(|row| {
                let (id, name, noted_at, confirmed, approved): (Uuid, String, i64, bool, bool) = row?;
                let cause = AbsenceCause::parse(&name)
                    .ok_or_else(|| Error::Unreadable("the cause of an absent row", format!("{id}: {name}")))?;
                let noted_at = Time::from_micros(noted_at);
                Ok(AbsentRow { id, cause, noted_at, position: Position(0), confirmed, approved })
            })
            .collect()
        };
        self.database.read(CONTEXT, work).await
    }

    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        let sql = "UPDATE absent SET confirmed = 1 WHERE id = ?1 AND cause IN ('missed', 'truncated')";
        self.each(ids, sql).await
    }

    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let sql = "UPDATE absent SET noted_at = ?2, confirmed = 0, approved = 0 WHERE id = ?1";
            let mut statement = transaction.prepare_cached(sql)?;
            for id in &ids {
                statement.execute(params![id, at.micros()])?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }

    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.each(ids, "DELETE FROM absent WHERE id = ?1 AND NOT approved").await
    }

    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let deletions = deletions(transaction, approval.at)?;
            if !approval.forced && !deletions.within(approval.max_deletes) {
                return Ok(Verdict::OverLimit(deletions));
            }
            transaction.execute("UPDATE absent SET approved = 1 WHERE confirmed", [])?;
            let before = approval.at.micros().saturating_sub(7 * DAY);
            transaction.execute("DELETE FROM absence_deletions WHERE deleted_at < ?1", [before])?;
            Ok(Verdict::Approved(deletions))
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }

    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let living = "SELECT count(*) FROM absent JOIN records USING (id) WHERE lives";
            let noted = count(transaction, living, [])?;
            let sql = &format!("{living} AND cause IN ('missed', 'truncated')");
            let candidates = count(transaction, sql, [])?;
            Ok(AbsenceCounts { noted, candidates, hidden: 0, deletions: deletions(transaction, at)? })
        };
        self.database.read(CONTEXT, work).await
    }
}

impl Rows {
    async fn each(&self, ids: &[Uuid], sql: &'static str) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(sql)?;
            for id in &ids {
                statement.execute([id])?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }
}

fn deletions(transaction: &Transaction<'_>, at: Time) -> Result<Deletions, Error> {
    let confirmed = count(transaction, "SELECT count(*) FROM absent WHERE confirmed AND NOT approved", [])?;
    let approved = count(transaction, "SELECT count(*) FROM absent WHERE approved", [])?;
    let since = at.micros().saturating_sub(DAY);
    let deleted = count(transaction, "SELECT count(*) FROM absence_deletions WHERE deleted_at > ?1", [since])?;
    let living = count(transaction, "SELECT count(*) FROM records WHERE lives", [])?;
    Ok(Deletions { confirmed, recent: approved + deleted, living })
}

fn count(transaction: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> Result<u64, Error> {
    let mut statement = transaction.prepare_cached(sql)?;
    Ok(statement.query_row(parameters, |row| row.get::<_, i64>(0))?.unsigned_abs())
}
