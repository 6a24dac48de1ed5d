//! Selects the entries to deliver next. The contract and its reasons are in [`super`].

use std::time::Instant;

use chunk_sync_engine::ports::{DeadLetter, Delivery, EntryId, Handover, chunk_of};
use chunk_sync_engine::report_dead_letter;
use chunk_sync_model::Time;
use tokio_postgres::Row;
use uuid::Uuid;

use super::entry::{entry_id, number};
use super::{ALONE, PostgresBus, SUSPECT, SWEEP, fields, in_turn};
use crate::postgres::cell::Cell;
use crate::postgres::fault::Error;
use crate::postgres::transaction::limit_of;

/// Most bytes of fields that one read delivers, unless a single entry has more.
const BYTES: i64 = 8 << 20;

/// Counts one more attempt for the entries that the last reader may have been working on when it ended: its suspect if
/// that is unfinished, else every entry delivered to it. The parts of the statement read one snapshot, without a lock:
/// a row that the statement has updated cannot be locked by another part of it.
const COUNT_ATTEMPTS: &str = "WITH reader AS (SELECT handed, suspect FROM chunk_sync.bus_reader), \
    suspect AS (SELECT entry.id FROM chunk_sync.bus AS entry JOIN reader ON entry.id = reader.suspect), \
    counted AS (UPDATE chunk_sync.bus AS entry SET attempts = attempts + 1 FROM reader \
        WHERE CASE WHEN EXISTS (SELECT FROM suspect) THEN entry.id = reader.suspect ELSE entry.id <= reader.handed END) \
    UPDATE chunk_sync.bus_reader SET suspect = NULL";

const HANDED: &str = "SELECT handed FROM chunk_sync.bus_reader";

/// The length of an entry is computed only if its stored size allows more than two megabytes once it is decompressed.
const LIST: &str = "SELECT id, attempts, CASE WHEN pg_column_size(fields) < 8192 THEN pg_column_size(fields)::bigint \
    ELSE (SELECT sum(octet_length(part)) FROM unnest(fields) AS part)::bigint END \
    FROM chunk_sync.bus WHERE id >= $1 ORDER BY id LIMIT $2";

/// Moves an entry that is too long into the dead letters, with the reasons, without fetching it.
const DEAD_LETTER_LONG: &str = "WITH long AS (DELETE FROM chunk_sync.bus WHERE id = $1 RETURNING fields) \
    INSERT INTO chunk_sync.dead (fields) SELECT fields || $2::bytea[] FROM long";

const FETCH: &str = "SELECT id, attempts, fields, published_at, clock_timestamp() FROM chunk_sync.bus \
    WHERE id = ANY($1) ORDER BY id";

/// Does not wait for the disk: a crash of the server that loses this write loses one counted attempt.
const NOTE: &str = "WITH lazily AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) \
    UPDATE chunk_sync.bus_reader SET handed = greatest(handed, $1), suspect = $2 FROM lazily";

/// Makes the entry the suspect, or lifts that suspicion.
const SET_ATTEMPTS: &str = "WITH noted AS (UPDATE chunk_sync.bus_reader SET suspect = CASE WHEN $3 THEN $1::bigint END \
    WHERE $3 OR suspect = $1) UPDATE chunk_sync.bus SET attempts = $2 WHERE id = $1";

const ENTRIES: &str = "SELECT id, fields FROM chunk_sync.bus WHERE id > $1 ORDER BY id LIMIT 16";

/// State of this process as the reader of the table.
#[derive(Default)]
pub(super) struct Desk {
    /// The greatest number that an earlier reader handed out.
    handed_before: i64,
    /// The low-water mark: reads between two sweeps start at this number.
    low: i64,
    /// The greatest number read, now and at the last sweep.
    top: i64,
    top_at_sweep: i64,
    swept: Option<Instant>,
    suspect: Option<Suspect>,
}

/// An entry that may be crashing its processes.
struct Suspect {
    number: i64,
    since: Instant,
}

/// An entry of the table without its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    number: i64,
    attempts: u32,
    bytes: i64,
}

impl PostgresBus {
    /// Delivers up to `max` entries. It marks them as delivered after its last await: a call that is dropped earlier
    /// has taken no entry.
    pub(super) async fn take(&self, max: usize) -> Result<Vec<Delivery>, Error> {
        let mut desk = self.desk.lock().await;
        let handed = &self.records.handed;
        desk.suspect.take_if(|suspect| !handed.contains(suspect.number));
        if desk.suspect.as_ref().is_some_and(|suspect| suspect.since.elapsed() < ALONE) {
            return Ok(Vec::new());
        }
        let fresh = self.without_long(self.list(&mut desk, max).await?).await?;
        let chosen = choose(&fresh, max);
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i64> = chosen.iter().map(|entry| entry.number).collect();
        let rows = self.records.query(FETCH, &[&numbers]).await?;
        let deliveries: Vec<Delivery> =
            rows.iter().map(|row| delivery(row, desk.handed_before)).collect::<Result<_, _>>()?;
        let alone = chosen.first().filter(|entry| entry.attempts >= SUSPECT).map(|entry| entry.number);
        let suspect = desk.suspect.as_ref().map(|suspect| suspect.number).or(alone);
        self.records.query(NOTE, &[&numbers.last(), &suspect]).await?;
        if let (None, Some(number)) = (&desk.suspect, suspect) {
            desk.suspect = Some(Suspect { number, since: Instant::now() });
        }
        handed.add(deliveries.iter().filter_map(|delivery| number(delivery.id)));
        Ok(deliveries)
    }

    /// Dead-letters the entries above the limit of bytes and returns the others. Each is one statement: after a crash the
    /// entry is in one of the two tables.
    async fn without_long(&self, fresh: Vec<Listed>) -> Result<Vec<Listed>, Error> {
        let limit = self.records.config.limits.event_max_bytes;
        let (kept, long): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|entry| usize::try_from(entry.bytes).unwrap_or_default() <= limit);
        for entry in long {
            let (id, bytes) = (entry_id(entry.number), entry.bytes.unsigned_abs());
            let letter = DeadLetter::of_long_entry(id, bytes, limit, jiff::Timestamp::now().into());
            self.records.query(DEAD_LETTER_LONG, &[&entry.number, &in_turn(letter.fields())]).await?;
            report_dead_letter(&letter);
        }
        Ok(kept)
    }

    /// Makes this process the reader: every unfinished entry is delivered again, whichever process had it. A silent
    /// handover counts an attempt.
    pub(super) async fn take_over(&self, handover: Handover) -> Result<(), Error> {
        let mut desk = self.desk.lock().await;
        if handover == Handover::Silent {
            self.records.query(COUNT_ATTEMPTS, &[]).await?;
        }
        let rows = self.records.query(HANDED, &[]).await?;
        let handed_before = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        self.records.handed.forget();
        *desk = Desk { handed_before, ..Desk::default() };
        Ok(())
    }

    /// Sets the number of counted attempts; it decides whether the entry is the suspect.
    pub(super) async fn set_attempts(&self, id: EntryId, attempts: u32) -> Result<(), Error> {
        let Some(number) = number(id) else { return Ok(()) };
        let mut desk = self.desk.lock().await;
        let suspect = attempts >= SUSPECT;
        let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        self.records.query(SET_ATTEMPTS, &[&number, &attempts, &suspect]).await?;
        if suspect {
            desk.suspect = Some(Suspect { number, since: Instant::now() });
        } else {
            desk.suspect.take_if(|suspect| suspect.number == number);
        }
        Ok(())
    }

    /// The number of entries of the chunk.
    pub(super) async fn unfinished_of(&self, chunk: Uuid) -> Result<u64, Error> {
        let (mut after, mut unfinished) = (i64::MIN, 0);
        loop {
            let rows = self.records.query(ENTRIES, &[&after]).await?;
            for row in &rows {
                unfinished += u64::from(chunk_of(&fields(row.try_get(1)?)) == Some(chunk));
                after = row.try_get(0)?;
            }
            if rows.is_empty() {
                return Ok(unfinished);
            }
        }
    }

    /// The next entries that this process has not delivered, in order of their numbers.
    async fn list(&self, desk: &mut Desk, max: usize) -> Result<Vec<Listed>, Error> {
        let sweeps = desk.swept.is_none_or(|swept| swept.elapsed() >= SWEEP);
        let low = if sweeps { i64::MIN } else { desk.low };
        // Enough that `max` of them are undelivered, if the table has so many.
        let limit = limit_of(self.records.handed.len().saturating_add(max));
        let rows = self.records.query(LIST, &[&low, &limit]).await?;
        let listed: Vec<Listed> = rows.iter().map(listed).collect::<Result<_, _>>()?;
        desk.top = listed.last().map_or(desk.top, |last| desk.top.max(last.number));
        let handed = &self.records.handed;
        let fresh: Vec<Listed> = listed.into_iter().filter(|entry| !handed.contains(entry.number)).collect();
        if sweeps {
            // Below the first fresh entry everything is delivered, finished, or not committed yet. An entry that
            // commits within one to two sweeps lies above the mark.
            desk.low = fresh.first().map_or(desk.top_at_sweep, |first| first.number.min(desk.top_at_sweep));
            (desk.top_at_sweep, desk.swept) = (desk.top, Some(Instant::now()));
        }
        Ok(fresh)
    }
}

/// The longest prefix within `max` entries and [`BYTES`]; a suspect is alone.
fn choose(fresh: &[Listed], max: usize) -> &[Listed] {
    let mut bytes = 0;
    let fits = |(i, entry): &(usize, &Listed)| {
        bytes += entry.bytes;
        *i == 0 || (*i < max && bytes <= BYTES && entry.attempts < SUSPECT && fresh[0].attempts < SUSPECT)
    };
    let count = fresh.iter().enumerate().take_while(fits).count();
    &fresh[..count]
}

fn listed(row: &Row) -> Result<Listed, tokio_postgres::Error> {
    Ok(Listed { number: row.try_get(0)?, attempts: row.try_get::<_, i32>(1)?.unsigned_abs(), bytes: row.try_get(2)? })
}

/// A column of type `timestamptz`.
pub(super) fn time(row: &Row, column: usize) -> Result<Time, tokio_postgres::Error> {
    Ok(match row.try_get(column)? {
        Cell::Time(time) => time,
        // Infinity, which the server's clock never shows: the earliest time admits no change from the future.
        _ => Time::from_micros(0),
    })
}

fn delivery(row: &Row, handed_before: i64) -> Result<Delivery, tokio_postgres::Error> {
    let (number, attempts): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Delivery {
        id: entry_id(number),
        attempt: attempts.unsigned_abs().saturating_add(1),
        // A late committer below that number is not known to be new: its writes may be repeated.
        again: number <= handed_before,
        added_at: time(row, 3)?,
        read_at: time(row, 4)?,
        fields: fields(row.try_get(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(entries: &[(u32, i64)], max: usize) -> usize {
        let listed =
            |(number, (attempts, bytes)): (i64, &(u32, i64))| Listed { number, attempts: *attempts, bytes: *bytes };
        choose(&(1..).zip(entries).map(listed).collect::<Vec<_>>(), max).len()
    }

    #[test]
    fn a_suspect_is_delivered_alone() {
        assert_eq!(chosen(&[(SUSPECT, 1), (0, 1)], 9), 1);
        assert_eq!(chosen(&[(0, 1), (2, 1), (SUSPECT + 1, 1), (0, 1)], 9), 2);
    }

    #[test]
    fn a_read_is_bounded_by_number_and_bytes_and_never_empty() {
        assert_eq!(chosen(&[(0, 1); 5], 3), 3);
        assert_eq!(chosen(&[(0, BYTES / 2), (0, BYTES / 2), (0, 1)], 9), 2);
        assert_eq!(chosen(&[(0, 2 * BYTES), (0, 1)], 9), 1);
        assert_eq!(chosen(&[], 9), 0);
    }
}
