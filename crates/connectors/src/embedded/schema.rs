//! The tables of the embedded stores and their migrations.

use rusqlite::Connection;

use super::fault::Error;
use super::values::limit_of;

/// Migrations in order; each runs once. Append new ones at the end and never alter an existing one. The file's
/// `user_version` is the number of migrations that have run.
const MIGRATIONS: &[&str] =
    &[TABLES, CONFLICTS, VECTORS, INSTALLATION, OUTBOX, ABSENT, WAITING, FLOOR, IDLE, ERASURES, WATCH];

const TABLES: &str = "
-- The rows: a chunk as JSON, its vectors in base64.
CREATE TABLE rows (id BLOB PRIMARY KEY, chunk TEXT NOT NULL, embedding_stale INTEGER NOT NULL);
-- The record of each chunk, tombstones included; row_digest is the digest of the row last written or read.
CREATE TABLE records (
    id BLOB PRIMARY KEY, version INTEGER NOT NULL, lives INTEGER NOT NULL, record BLOB NOT NULL, row_digest BLOB);
-- The outbox: chunks whose newest version a store does not hold yet; seq is the order of insertion.
CREATE TABLE debts (
    seq INTEGER PRIMARY KEY, target TEXT NOT NULL, id BLOB NOT NULL, version INTEGER NOT NULL, UNIQUE (target, id));

-- The graph: mentions and relations per chunk. The entities and relations are the union over all chunks.
CREATE TABLE graph_chunks (
    id BLOB PRIMARY KEY, version INTEGER NOT NULL, content_hash TEXT NOT NULL, chunk_type TEXT NOT NULL,
    source_type TEXT NOT NULL, system_origin TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    dataset TEXT);
CREATE TABLE graph_mentions (
    chunk BLOB NOT NULL, entity TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, confidence REAL NOT NULL,
    positions TEXT NOT NULL, PRIMARY KEY (chunk, entity)) WITHOUT ROWID;
CREATE INDEX graph_mentions_entity ON graph_mentions (entity);
CREATE TABLE graph_relations (
    chunk BLOB NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, type TEXT NOT NULL, confidence REAL NOT NULL,
    PRIMARY KEY (chunk, source, target, type)) WITHOUT ROWID;
CREATE INDEX graph_relations_ends ON graph_relations (source, target, type);
CREATE TABLE graph_projects (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE graph_datasets (id TEXT PRIMARY KEY, project TEXT) WITHOUT ROWID;
-- SQLite takes bare columns from the row that max() chose: the chunk of the highest version wins. Times compare as text
-- without the Z, which would sort after the point of a fraction.
CREATE VIEW graph_entities AS
    SELECT word.id, name, type, confidence, first_seen, last_seen
    FROM (SELECT entity AS id, name, type, confidence, max(version)
          FROM graph_mentions JOIN graph_chunks ON graph_chunks.id = chunk GROUP BY entity) AS word
    JOIN (SELECT entity AS id, min(rtrim(created_at, 'Z')) || 'Z' AS first_seen,
                 max(rtrim(updated_at, 'Z')) || 'Z' AS last_seen
          FROM graph_mentions JOIN graph_chunks ON graph_chunks.id = chunk GROUP BY entity) AS seen
    ON seen.id = word.id;

-- The bus: every entry in it is unfinished. Attempts change, fields do not and are long, so they have separate tables.
CREATE TABLE bus_entries (id INTEGER PRIMARY KEY AUTOINCREMENT, attempts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE bus_fields (id INTEGER PRIMARY KEY, fields BLOB NOT NULL);
CREATE TABLE bus_dead (id INTEGER PRIMARY KEY AUTOINCREMENT, fields BLOB NOT NULL);
";

const FLOOR: &str = "ALTER TABLE installation ADD COLUMN version_floor INTEGER NOT NULL DEFAULT 0";

const IDLE: &str = "
-- When a merge wrote the record last, in microseconds since 1970, and whether nothing more of it expires until the next.
-- Of the records that exist it is unknown: they stay for the whole retention time.
ALTER TABLE records ADD COLUMN merged_at INTEGER NOT NULL DEFAULT 0;
UPDATE records SET merged_at = unixepoch() * 1000000;
ALTER TABLE records ADD COLUMN swept INTEGER NOT NULL DEFAULT 0;
";

const WATCH: &str = "
-- Chunks whose writes to a store may arrive late: they are read back until that time.
CREATE TABLE watch (target TEXT NOT NULL, id BLOB NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (target, id))
    WITHOUT ROWID;
";

const ERASURES: &str = "
-- Chunks that the process which works the stream is to erase from its log.
CREATE TABLE erasures (id BLOB PRIMARY KEY) WITHOUT ROWID;
";

const OUTBOX: &str = "ALTER TABLE debts RENAME TO outbox";

const WAITING: &str = "
-- Events that cannot be merged now, and later events of their chunks.
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, chunk BLOB NOT NULL, entry TEXT,
    attempt INTEGER NOT NULL, reason TEXT NOT NULL, error TEXT NOT NULL, since INTEGER NOT NULL, fields BLOB NOT NULL);
CREATE INDEX waiting_by_chunk ON waiting (chunk, number);
";

const CONFLICTS: &str = "
-- The conflict records; AUTOINCREMENT never reuses a number.
CREATE TABLE conflicts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chunk BLOB NOT NULL, met_at INTEGER NOT NULL, part TEXT NOT NULL,
    kind TEXT NOT NULL, strategy TEXT NOT NULL, outcome TEXT NOT NULL, source_writer TEXT, target_writer TEXT,
    version INTEGER NOT NULL, conflict TEXT NOT NULL, closed_at INTEGER, closed_by TEXT);
CREATE INDEX conflicts_of_chunk ON conflicts (chunk);
CREATE INDEX conflicts_open ON conflicts (id) WHERE outcome = 'open' AND closed_at IS NULL;
CREATE INDEX conflicts_settled ON conflicts (coalesce(closed_at, met_at))
    WHERE outcome <> 'open' OR closed_at IS NOT NULL;
";

const VECTORS: &str = "
-- The contents of a Qdrant point: the payload as JSON, and each vector by its name. A dense vector is a sequence of
-- little-endian f32; a sparse one of pairs, little-endian u32 and f32, in ascending order of index.
CREATE TABLE points (id BLOB PRIMARY KEY, sync_version INTEGER NOT NULL, payload TEXT NOT NULL);
CREATE TABLE vectors (
    id BLOB NOT NULL, name TEXT NOT NULL, sync_version INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (id, name));
-- Tables only, no views: any SQLite client reads the file.
DROP VIEW graph_entities;
";

const INSTALLATION: &str = "
-- The set of stores with its version, and the id by which the servers of the installation are marked.
CREATE TABLE installation (
    one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL, version INTEGER NOT NULL, stores TEXT NOT NULL,
    filling TEXT NOT NULL);
";

const ABSENT: &str = "
-- Living chunks without a row, and the deletions of the last days that a comparison decided.
CREATE TABLE absent (
    id BLOB PRIMARY KEY, cause TEXT NOT NULL, noted_at INTEGER NOT NULL, newest_change INTEGER,
    confirmed INTEGER NOT NULL DEFAULT 0, approved INTEGER NOT NULL DEFAULT 0);
CREATE TABLE absence_deletions (
    id BLOB NOT NULL, deleted_at INTEGER NOT NULL, PRIMARY KEY (id, deleted_at)) WITHOUT ROWID;
";

/// Runs the missing migrations and refuses a file of a newer version. Only the holder of the lock (`works`) migrates a
/// file of an older version: another process could be running a program that knows only the old tables.
pub(super) fn prepare(connection: &mut Connection, works: bool) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let missing = usize::try_from(version).ok().and_then(|made| MIGRATIONS.get(made..)).ok_or_else(|| {
        let message = format!("it has version {version}, this program supports {}; use a newer one", MIGRATIONS.len());
        Error::Unreadable("the file of the embedded stores", message)
    })?;
    if !(missing.is_empty() || works || version == 0) {
        return Err(Error::Old(version, MIGRATIONS.len()));
    }
    if !missing.is_empty() {
        missing.iter().try_for_each(|migration| transaction.execute_batch(migration))?;
        transaction.pragma_update(None, "user_version", limit_of(MIGRATIONS.len()))?;
    }
    transaction.commit()?;
    Ok(())
}
