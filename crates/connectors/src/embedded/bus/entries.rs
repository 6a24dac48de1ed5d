//! Entries as the tables hold them: numbers, ids, and fields in one blob.

use chunk_sync_engine::ports::{Delivery, EntryId};
use chunk_sync_model::event::Fields;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::embedded::fault::Error;
use crate::embedded::values::limit_of;

/// The number of an entry is its time in milliseconds, shifted left by this, plus its sequence within the millisecond.
pub(super) const SEQUENCE_BITS: u32 = 20;

/// A read ends with the entry with which it has this many bytes of fields.
pub(super) const READ_BYTES: usize = 8 << 20;

pub(super) fn take(
    transaction: &Transaction<'_>,
    after: i64,
    max: usize,
    counts: bool,
) -> Result<Vec<Delivery>, Error> {
    let sql = "SELECT e.id, e.attempts, f.fields FROM bus_entries e JOIN bus_fields f ON f.id = e.id
        WHERE e.id > ?1 ORDER BY e.id LIMIT ?2";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, limit_of(max)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, Vec<u8>>(2)?))
    })?;
    let (mut deliveries, mut bytes, read_at) = (Vec::new(), 0, jiff::Timestamp::now().into());
    for row in rows {
        let (id, attempts, fields) = row?;
        let (attempt, again) = (attempts + u32::from(counts || attempts == 0), attempts > 0);
        bytes += fields.len();
        let (id, fields) = (entry_id(id), decode(&fields)?);
        deliveries.push(Delivery { id, attempt, again, added_at: id.time(), read_at, fields });
        if bytes >= READ_BYTES {
            break;
        }
    }
    if let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) {
        let sql = "UPDATE bus_entries SET attempts = attempts + 1 WHERE id BETWEEN ?1 AND ?2 AND (?3 OR attempts = 0)";
        transaction.prepare_cached(sql)?.execute(params![number(first.id), number(last.id), counts])?;
    }
    Ok(deliveries)
}

pub(super) fn remove(transaction: &Transaction<'_>, id: EntryId) -> Result<(), Error> {
    transaction.prepare_cached("DELETE FROM bus_entries WHERE id = ?1")?.execute([number(id)])?;
    transaction.prepare_cached("DELETE FROM bus_fields WHERE id = ?1")?.execute([number(id)])?;
    Ok(())
}

/// The number of the next entry: above every number ever assigned, even when the clock was set back.
pub(super) fn next_number(transaction: &Transaction<'_>, table: &str, now: u64) -> Result<i64, Error> {
    let mut statement = transaction.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    let last: Option<i64> = statement.query_row([table], |row| row.get(0)).optional()?;
    Ok(last.map_or(first_of(now), |last| (last + 1).max(first_of(now))))
}

pub(super) fn first_of(millis: u64) -> i64 {
    number(EntryId { millis, sequence: 0 })
}

pub(super) fn number(id: EntryId) -> i64 {
    let number = (id.millis << SEQUENCE_BITS).saturating_add(id.sequence);
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn entry_id(number: i64) -> EntryId {
    let number = number.unsigned_abs();
    EntryId { millis: number >> SEQUENCE_BITS, sequence: number & ((1 << SEQUENCE_BITS) - 1) }
}

pub(super) fn now_millis() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

pub(in crate::embedded) fn encode(fields: &Fields) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(fields).map_err(|error| Error::Unreadable("the encoding of a bus entry", error.to_string()))
}

pub(in crate::embedded) fn decode(bytes: &[u8]) -> Result<Fields, Error> {
    postcard::from_bytes(bytes).map_err(|error| Error::Unreadable("a bus entry", error.to_string()))
}
