//! The statements on rows, records and debts, as text. Values are parameters, always; only the names of the table and its
//! columns are part of the text.

use super::row::COLUMNS;

/// A name as a statement shows it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a statement shows it, whatever is in it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Columns that big values lie in; a row whose vectors did not change is updated without them, so that they are neither
/// written nor carried once more.
pub(super) const VECTORS: [&str; 2] = ["dense_vector", "sparse_vector"];

/// The first statement of each transaction that writes rows: it marks them as the service's own in the log.
pub(super) const OWN: &str = "SELECT pg_logical_emit_message(true, 'chunk_sync', 'own')";

/// Locks chunks that may have neither row nor record yet, in the order given.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(1667787627, key) FROM unnest($1::integer[]) AS key";

pub(super) const RECORDS: &str = "SELECT id, record, row_digest FROM chunk_sync.records WHERE id = ANY($1) \
    ORDER BY id FOR UPDATE";

pub(super) const VERSIONS: &str = "SELECT id, sync_version, lives, row_digest FROM chunk_sync.records \
    WHERE id = ANY($1)";

pub(super) const FURTHER: &str = "SELECT chunk_id, model, alternative, vector, made_at FROM chunk_sync.embeddings \
    WHERE chunk_id = ANY($1)";

pub(super) const SET_RECORDS: &str = "INSERT INTO chunk_sync.records (id, sync_version, lives, record, row_digest) \
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::bytea[], $5::bytea[]) \
    ON CONFLICT (id) DO UPDATE SET sync_version = excluded.sync_version, lives = excluded.lives, \
    record = excluded.record, row_digest = excluded.row_digest";

pub(super) const DROP_FURTHER: &str = "DELETE FROM chunk_sync.embeddings WHERE chunk_id = ANY($1)";

pub(super) const ADD_FURTHER: &str = "INSERT INTO chunk_sync.embeddings (chunk_id, model, alternative, vector, made_at) \
    VALUES ($1, $2, $3, $4, $5)";

pub(super) const OWE: &str = "INSERT INTO chunk_sync.debts (chunk_id, target, sync_version) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[]) \
    ON CONFLICT (chunk_id, target) DO UPDATE SET sync_version = excluded.sync_version \
    WHERE debts.sync_version < excluded.sync_version";

pub(super) const DEBTS: &str = "SELECT chunk_id, sync_version FROM chunk_sync.debts WHERE target = $1 \
    ORDER BY since, chunk_id LIMIT $2";

/// Locked in the order in which merges lock them, so that neither waits for the other in a circle.
pub(super) const PAID: &str = "DELETE FROM chunk_sync.debts d USING ( \
        SELECT o.chunk_id, o.target, p.sync_version FROM chunk_sync.debts o \
        JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS p (chunk_id, target, sync_version) USING (chunk_id, target) \
        WHERE o.sync_version <= p.sync_version ORDER BY o.chunk_id, o.target FOR UPDATE OF o \
    ) paid WHERE d.chunk_id = paid.chunk_id AND d.target = paid.target AND d.sync_version <= paid.sync_version";

pub(super) const DEBT_COUNTS: &str = "SELECT target, count(*) FROM chunk_sync.debts GROUP BY target";

pub(super) const CHECK: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// The statements that name the table of chunks.
#[derive(Debug)]
pub(super) struct Statements {
    /// Rows by their ids, locked.
    pub(super) lock_rows: String,
    /// Rows by their ids.
    pub(super) rows: String,
    /// A row that was not there: id, then every column.
    pub(super) insert: String,
    /// The same row with other values: id, then every column.
    pub(super) update: String,
    /// The same without [`VECTORS`].
    pub(super) update_rest: String,
    pub(super) delete: String,
    /// Ids of rows in their order, at most `$1`; and those above `$2`.
    pub(super) row_ids: String,
    pub(super) row_ids_after: String,
    /// The same of rows and records.
    pub(super) ids: String,
    pub(super) ids_after: String,
    pub(super) count: String,
}

impl Statements {
    /// Those on `table`, which is quoted already.
    pub(super) fn new(table: &str) -> Self {
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        let places: Vec<String> = (2..).take(names.len()).map(|place| format!("${place}")).collect();
        let select = format!("SELECT id, {} FROM {table} WHERE id = ANY($1)", names.join(", "));
        let row_ids = |above: &str| format!("SELECT id FROM {table} {above} ORDER BY id LIMIT $1");
        let ids = |above: &str| {
            format!(
                "SELECT id FROM (({}) UNION (SELECT id FROM chunk_sync.records {above} ORDER BY id LIMIT $1)) AS known \
                 ORDER BY id LIMIT $1",
                row_ids(above)
            )
        };
        let above = "WHERE id > $2";
        Self {
            lock_rows: format!("{select} ORDER BY id FOR UPDATE"),
            rows: select,
            insert: format!(
                "INSERT INTO {table} (id, {}) VALUES ($1, {}) ON CONFLICT (id) DO NOTHING",
                names.join(", "),
                places.join(", ")
            ),
            update: update(table, &names),
            update_rest: update(table, &names.into_iter().filter(|name| !VECTORS.contains(name)).collect::<Vec<_>>()),
            delete: format!("DELETE FROM {table} WHERE id = ANY($1)"),
            row_ids: row_ids(""),
            row_ids_after: row_ids(above),
            ids: ids(""),
            ids_after: ids(above),
            count: format!("SELECT count(*) FROM {table}"),
        }
    }
}

fn update(table: &str, names: &[&str]) -> String {
    let sets = names.iter().zip(2..).map(|(name, place)| match *name {
        // It follows from the path; what others wrote there stays where it does not.
        "file_extension" => format!("{name} = coalesce(${place}, {name})"),
        _ => format!("{name} = ${place}"),
    });
    format!("UPDATE {table} SET {} WHERE id = $1", sets.collect::<Vec<_>>().join(", "))
}
