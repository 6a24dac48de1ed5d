//! The tables of the embedded stores, and their version.

use rusqlite::Connection;

use super::fault::Error;

/// The number in the file's `user_version`.
const VERSION: i64 = 1;

const TABLES: &str = "
-- The rows: a chunk as JSON, its vectors in base64.
CREATE TABLE rows (id BLOB PRIMARY KEY, chunk TEXT NOT NULL, embedding_stale INTEGER NOT NULL);
-- What the service remembers of each, tombstones included; row_digest says which row it last wrote or saw.
CREATE TABLE records (
    id BLOB PRIMARY KEY, version INTEGER NOT NULL, lives INTEGER NOT NULL, record BLOB NOT NULL, row_digest BLOB);
-- What a store has yet to be told; seq is the order in which it fell behind.
CREATE TABLE debts (
    seq INTEGER PRIMARY KEY, target TEXT NOT NULL, id BLOB NOT NULL, version INTEGER NOT NULL, UNIQUE (target, id));

-- The graph: each chunk with what it alone says. Entities and relations are what all chunks say together.
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
-- SQLite takes bare columns from the row that max() chose: the chunk of the highest version has the word. Times compare
-- as text once the Z is off, which would come after the point of a fraction.
CREATE VIEW graph_entities AS
    SELECT word.id, name, type, confidence, first_seen, last_seen
    FROM (SELECT entity AS id, name, type, confidence, max(version)
          FROM graph_mentions JOIN graph_chunks ON graph_chunks.id = chunk GROUP BY entity) AS word
    JOIN (SELECT entity AS id, min(rtrim(created_at, 'Z')) || 'Z' AS first_seen,
                 max(rtrim(updated_at, 'Z')) || 'Z' AS last_seen
          FROM graph_mentions JOIN graph_chunks ON graph_chunks.id = chunk GROUP BY entity) AS seen
    ON seen.id = word.id;

-- The bus: what is there is unfinished. Attempts change, fields do not, and fields are long: so they lie apart.
CREATE TABLE bus_entries (id INTEGER PRIMARY KEY AUTOINCREMENT, attempts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE bus_fields (id INTEGER PRIMARY KEY, fields BLOB NOT NULL);
CREATE TABLE bus_dead (id INTEGER PRIMARY KEY AUTOINCREMENT, fields BLOB NOT NULL);
";

/// Creates the tables in an empty file; refuses a file of another version.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        other => {
            let message = format!("it has version {other}, this program reads version {VERSION}");
            return Err(Error::Unreadable("the file of the embedded stores", message));
        }
    }
    transaction.commit()?;
    Ok(())
}
