//! The SQL on rows, records, the outbox and conflicts. Values are always parameters; only the names of the table and
//! its columns are part of the text.

use super::row::COLUMNS;

/// Quotes an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Lists the rows that a merge is about to write, for capture.
pub(super) const OWN: &str = "SELECT pg_logical_emit_message(true, 'chunk_sync', $1::text)";

/// The settings of one transaction: `$1` how long it may idle, `$2` how long a statement may wait for a lock. With
/// `row_security = off` the server refuses a query from which row level security would hide rows: a hidden row would
/// look like a deleted one.
pub(super) const SET_LOCALLY: &str = "SELECT set_config('synchronous_commit', 'on', true), \
    set_config('row_security', 'off', true), \
    set_config('idle_in_transaction_session_timeout', $1, true), set_config('lock_timeout', $2, true)";

/// How long the statements of this transaction may wait for a lock from here on.
pub(super) const SET_LOCK_TIMEOUT: &str = "SELECT set_config('lock_timeout', $1, true)";

/// Takes the advisory locks of chunks, which may have neither row nor record yet, in the order given.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(1667787627, key) FROM unnest($1::integer[]) AS key";

/// As [`RECORDS`], without locks.
pub(super) const RECORDS_SNAPSHOT: &str = "SELECT id, record, row_digest FROM chunk_sync.records WHERE id = ANY($1)";

/// As the last column, whether there is a copy of the reserved key.
pub(super) const RECORDS: &str = "SELECT id, record, row_digest, lives AND reserved IS NOT NULL \
    FROM chunk_sync.records WHERE id = ANY($1) ORDER BY id FOR UPDATE";

pub(super) const VERSIONS: &str = "SELECT id, sync_version, lives, row_digest FROM chunk_sync.records \
    WHERE id = ANY($1)";

pub(super) const FURTHER: &str = "SELECT chunk_id, model, alternative, vector, made_at FROM chunk_sync.embeddings \
    WHERE chunk_id = ANY($1)";

/// A record without a new copy of the reserved key keeps the one it has, as long as the chunk lives.
pub(super) const SET_RECORDS: &str = "INSERT INTO chunk_sync.records (id, sync_version, lives, record, row_digest, \
    reserved, reserved_stripped) \
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::bytea[], $5::bytea[], $6::text[], $7::boolean[]) \
    ON CONFLICT (id) DO UPDATE SET sync_version = excluded.sync_version, lives = excluded.lives, \
    record = excluded.record, row_digest = excluded.row_digest, merged_at = clock_timestamp(), swept = false, \
    reserved = CASE WHEN excluded.lives THEN coalesce(excluded.reserved, records.reserved) END, \
    reserved_stripped = CASE WHEN excluded.reserved IS NULL THEN records.reserved_stripped \
        ELSE excluded.reserved_stripped END";

pub(super) const DROP_FURTHER: &str = "DELETE FROM chunk_sync.embeddings WHERE chunk_id = ANY($1)";

pub(super) const ADD_FURTHER: &str = "INSERT INTO chunk_sync.embeddings (chunk_id, model, alternative, vector, made_at) \
    VALUES ($1, $2, $3, $4, $5)";

pub(super) const ENQUEUE: &str = "INSERT INTO chunk_sync.outbox (chunk_id, target, sync_version) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[]) \
    ON CONFLICT (chunk_id, target) DO UPDATE SET sync_version = excluded.sync_version \
    WHERE outbox.sync_version < excluded.sync_version";

pub(super) const PENDING_WRITES: &str = "SELECT chunk_id, sync_version FROM chunk_sync.outbox WHERE target = $1 \
    ORDER BY since, chunk_id LIMIT $2";

/// Locks the outbox entries in the same order as merges do, so that the two never deadlock.
pub(super) const DRAINED: &str = "DELETE FROM chunk_sync.outbox d USING ( \
        SELECT o.chunk_id, o.target, p.sync_version FROM chunk_sync.outbox o \
        JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS p (chunk_id, target, sync_version) USING (chunk_id, target) \
        WHERE o.sync_version <= p.sync_version ORDER BY o.chunk_id, o.target FOR UPDATE OF o \
    ) done WHERE d.chunk_id = done.chunk_id AND d.target = done.target AND d.sync_version <= done.sync_version";

pub(super) const OUTBOX_COUNTS: &str = "SELECT target, count(*) FROM chunk_sync.outbox GROUP BY target";

pub(super) const ADD_CONFLICTS: &str = "INSERT INTO chunk_sync.conflicts (chunk_id, met_at, part, kind, strategy, \
    outcome, source_writer, target_writer, sync_version, conflict, closed_at, closed_by) \
    SELECT chunk_id, met_at, part, kind, strategy, outcome, source, target, version, conflict::json, closed_at, closed_by \
    FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
        $9::bigint[], $10::text[], $11::timestamptz[], $12::text[]) WITH ORDINALITY \
        AS met (chunk_id, met_at, part, kind, strategy, outcome, source, target, version, conflict, closed_at, closed_by, nth) \
    ORDER BY nth";

pub(super) const CLOSE_CONFLICTS: &str = "UPDATE chunk_sync.conflicts c \
    SET closed_at = decided.closed_at, closed_by = decided.closed_by \
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[]) AS decided (chunk_id, part, closed_at, closed_by) \
    WHERE c.chunk_id = decided.chunk_id AND c.part = decided.part AND c.outcome = 'open' AND c.closed_at IS NULL";

/// A page, and per row whether further ones match: `$9` rows at most, and none after the one that brings the page to `$10`
/// bytes. The inner query reads one row more than the page has.
pub(super) const CONFLICTS: &str = "SELECT id, chunk_id, met_at, sync_version, conflict, closed_at, closed_by, \
    count(*) OVER () < all_rows \
    FROM (SELECT *, count(*) OVER () AS all_rows, row_number() OVER (ORDER BY id DESC) AS nth, \
    coalesce(sum(octet_length(conflict)) OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier \
    FROM (SELECT id, chunk_id, met_at, sync_version, conflict::text AS conflict, closed_at, closed_by \
    FROM chunk_sync.conflicts WHERE ($1::uuid IS NULL OR chunk_id = $1) AND ($2::text IS NULL OR kind = $2) \
    AND ($3::text IS NULL OR strategy = $3) AND ($4::text IS NULL OR outcome = $4) \
    AND ($5::text IS NULL OR source_writer = $5 OR target_writer = $5) \
    AND (NOT $6::boolean OR (outcome = 'open' AND closed_at IS NULL)) \
    AND ($7::timestamptz IS NULL OR met_at >= $7) AND ($8::bigint IS NULL OR id < $8) \
    ORDER BY id DESC LIMIT CASE WHEN $9::bigint < 9223372036854775807 THEN $9 + 1 END) matching) page \
    WHERE nth <= $9 AND earlier < $10::bigint ORDER BY id DESC";

pub(super) const OPEN_CONFLICTS: &str = "SELECT count(*) FROM chunk_sync.conflicts \
    WHERE outcome = 'open' AND closed_at IS NULL";

/// Added up only if the table with everything that belongs to it has more than `$1` bytes.
pub(super) const CONFLICT_BYTES: &str = "SELECT CASE WHEN pg_table_size('chunk_sync.conflicts') <= $1::bigint \
    THEN pg_table_size('chunk_sync.conflicts') \
    ELSE (SELECT coalesce(sum(pg_column_size(conflict)), 0)::bigint FROM chunk_sync.conflicts) END";

/// The array makes the subquery run once. Skips records that another process is deleting.
pub(super) const FORGET_CONFLICTS: &str = "DELETE FROM chunk_sync.conflicts WHERE id = ANY(ARRAY( \
        SELECT id FROM chunk_sync.conflicts \
        WHERE (outcome <> 'open' OR closed_at IS NOT NULL) AND coalesce(closed_at, met_at) < $1 \
        ORDER BY coalesce(closed_at, met_at) LIMIT $2 FOR UPDATE SKIP LOCKED \
    )) RETURNING 1";

pub(super) const CHECK: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean";

/// Whether new sessions are read-only, although this one is not: a host may have set it when the disk became full.
pub(super) const GUARD: &str = "SELECT 1 FROM pg_db_role_setting, unnest(setconfig) AS setting \
    WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
    AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)) \
    AND setting IN ('default_transaction_read_only=on', 'default_transaction_read_only=true', \
        'default_transaction_read_only=1') \
    AND NOT current_setting('default_transaction_read_only')::boolean LIMIT 1";

/// The statements that name the table of chunks.
#[derive(Debug)]
pub(super) struct Statements {
    /// Rows by their ids, locked for update.
    pub(super) lock_rows: String,
    /// Rows by their ids.
    pub(super) rows: String,
    /// The lengths of rows by their ids, in bytes.
    pub(super) lengths: String,
    /// Inserts a row: id, then every column. Fails if the row exists.
    pub(super) insert: String,
    /// As [`insert`](Self::insert), but inserts nothing if the row exists.
    pub(super) insert_if_absent: String,
    /// The name of the table.
    table: String,
    pub(super) delete: String,
    /// The ids of those that another transaction locks.
    pub(super) locked: String,
    /// The ids of those that exist.
    pub(super) present: String,
    /// Whether the table or a partition has triggers or rules that may alter or skip a write.
    pub(super) triggers: String,
    /// Fails with a division by zero if [`triggers`](Self::triggers) is true, or if the table is another one than that on
    /// record.
    pub(super) as_written: String,
    /// Ids of rows in ascending order, at most `$1`; and only those above `$2`.
    /// Ids of rows and records, likewise.
    pub(super) ids: String,
    pub(super) ids_after: String,
    pub(super) count: String,
}

impl Statements {
    /// The statements on `table`, which is already quoted.
    pub(super) fn new(table: &str, row_max_bytes: usize) -> Self {
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
        let insert = format!("INSERT INTO {table} (id, {}) VALUES ($1, {})", names.join(", "), places.join(", "));
        let triggers = triggers(table);
        Self {
            lock_rows: format!("{select} AND {} ORDER BY id FOR UPDATE", short_enough(row_max_bytes)),
            lengths: format!("SELECT id, ({LENGTH})::bigint FROM {table} WHERE id = ANY($1)"),
            rows: select,
            insert_if_absent: format!("{insert} ON CONFLICT (id) DO NOTHING"),
            insert,
            table: table.to_owned(),
            locked: format!(
                "WITH free AS MATERIALIZED (SELECT id FROM {table} WHERE id = ANY($1) FOR UPDATE SKIP LOCKED) \
                 SELECT id FROM {table} WHERE id = ANY($1) EXCEPT SELECT id FROM free"
            ),
            present: format!("SELECT id FROM {table} WHERE id = ANY($1)"),
            as_written: format!(
                "SELECT 1 / CASE WHEN {triggers} OR EXISTS (SELECT FROM chunk_sync.recorded_table \
                 WHERE table_oid IS DISTINCT FROM to_regclass({})::oid) THEN 0 ELSE 1 END",
                literal(table)
            ),
            triggers: format!("SELECT {triggers}"),
            delete: format!("DELETE FROM {table} WHERE id = ANY($1)"),
            ids: ids(""),
            ids_after: ids(above),
            count: format!("SELECT count(*) FROM {table}"),
        }
    }
}

/// Whether the table or a partition has triggers or rules.
fn triggers(table: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_class c WHERE (c.oid = {0}::regclass \
         OR c.oid IN (SELECT relid FROM pg_partition_tree({0}::regclass))) AND (c.relhasrules \
         OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D')))",
        literal(table)
    )
}

impl Statements {
    /// Updates these columns of a row, by their places in [`COLUMNS`]: id, then the columns. With `by_key` the column
    /// `metadata` is a set of keys, and the last parameter has the keys to remove.
    pub(super) fn update(&self, columns: &[usize], by_key: bool) -> String {
        let removed = columns.len() + 2;
        let sets = columns.iter().zip(2..).map(|(column, place)| match COLUMNS[*column].name {
            // Derived from the path; without a derived value, the value of another program stays.
            name @ "file_extension" => format!("{name} = coalesce(${place}, {name})"),
            name @ "metadata" if by_key => format!(
                "{name} = (CASE jsonb_typeof({name}) WHEN 'object' THEN {name} ELSE '{{}}' END - ${removed}::text[]) \
                 || ${place}"
            ),
            name => format!("{name} = ${place}"),
        });
        format!("UPDATE {} SET {} WHERE id = $1", self.table, sets.collect::<Vec<_>>().join(", "))
    }
}

/// The length of a row, in bytes. That of a compressed JSON value is computed only if it can be long.
const LENGTH: &str = "coalesce(octet_length(content), 0) + coalesce(octet_length(summary), 0) \
    + coalesce(CASE WHEN pg_column_size(metadata) > 131072 THEN octet_length(metadata::text) ELSE 0 END, 0) \
    + coalesce(CASE WHEN pg_column_size(entity_refs) > 131072 THEN octet_length(entity_refs::text) ELSE 0 END, 0)";

/// Fails the statement for a row that is longer than this, before its values are read: the cast of the text raises SQLSTATE
/// 22P02 with that text.
fn short_enough(row_max_bytes: usize) -> String {
    format!(
        "(CASE WHEN {LENGTH} > {row_max_bytes} \
         THEN ('the row has more than limits.row_max_bytes; shorten it: ' || id)::integer ELSE 1 END) = 1"
    )
}

/// One row per stream. It is updated several times a second; the fill factor leaves room for that on its page.
pub(super) const LEASE_TABLE: &[&str] = &["CREATE TABLE chunk_sync.lease (
    stream text PRIMARY KEY,
    token uuid,
    beat bigint NOT NULL,
    holder text NOT NULL,
    since timestamptz NOT NULL
) WITH (fillfactor = 10)"];

/// A merge locks the lease before it reads the token. In a single statement the snapshot of the token could be older than
/// the lock.
pub(super) const LEASE_LOCK_SHARED: &str = "SELECT pg_advisory_xact_lock_shared(1667787628, 1)";

pub(super) const LEASE_TOKEN: &str = "SELECT token FROM chunk_sync.lease WHERE stream = 'events'";
