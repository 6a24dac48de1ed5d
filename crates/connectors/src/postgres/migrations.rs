//! The service's own tables, as a list of migrations that each run once.

/// Migrations of the service's own tables, in order; each runs once. Append new ones at the end and never alter an
/// existing one.
///
/// A record changes with every merge and consists mostly of hashes. The fill factor leaves room for HOT updates, which
/// do not touch the index, and the TOAST target keeps a record uncompressed and in line while it fits on a page.
pub(super) const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE chunk_sync.records (
    id uuid PRIMARY KEY,
    sync_version bigint NOT NULL,
    lives boolean NOT NULL,
    record bytea NOT NULL,
    row_digest bytea
) WITH (toast_tuple_target = 8160, fillfactor = 70)",
        "CREATE TABLE chunk_sync.debts (
    chunk_id uuid NOT NULL,
    target text NOT NULL,
    sync_version bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chunk_id, target)
)",
        "CREATE INDEX debts_by_age ON chunk_sync.debts (target, since, chunk_id)",
        "CREATE TABLE chunk_sync.embeddings (
    chunk_id uuid NOT NULL,
    model text NOT NULL,
    alternative boolean NOT NULL,
    vector real[] NOT NULL,
    made_at timestamptz,
    PRIMARY KEY (chunk_id, model, alternative)
)",
        "ALTER TABLE chunk_sync.embeddings ALTER COLUMN vector SET STORAGE EXTERNAL",
    ],
    CONFLICTS,
    POSITIONS,
    INSTALLATION,
    BUS,
    super::sql::LEASE_TABLE,
    &[
        "ALTER TABLE chunk_sync.debts RENAME TO outbox",
        "ALTER INDEX chunk_sync.debts_by_age RENAME TO outbox_by_age",
        "ALTER INDEX chunk_sync.debts_pkey RENAME TO outbox_pkey",
    ],
    super::absence_tables::ABSENT,
    super::absence_tables::RECORDED_TABLE,
    // The signature of the publication when the log was last opened.
    &["ALTER TABLE chunk_sync.positions ADD COLUMN published text"],
    WAITING,
    IDLE,
    ERASURES,
    WATCH,
    RESERVED,
];

/// When a merge wrote the record last, and whether nothing more of it expires until the next. There is no index by
/// time, because it would cost every merge its HOT update.
const IDLE: &[&str] = &["ALTER TABLE chunk_sync.records ADD COLUMN merged_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN swept boolean NOT NULL DEFAULT false"];

/// The chunks that the process which works the stream is to erase from its log.
const ERASURES: &[&str] = &["CREATE TABLE chunk_sync.erasures (chunk_id uuid PRIMARY KEY)"];

/// The chunks whose writes to a store may arrive late: they are read back until that time.
const WATCH: &[&str] = &["CREATE TABLE chunk_sync.watch (
    chunk_id uuid NOT NULL,
    target text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (chunk_id, target)
)"];

/// The conflict records, with indexes for the frequent queries: those of a chunk, the few open ones, and the oldest
/// closed ones.
const CONFLICTS: &[&str] = &[
    "CREATE TABLE chunk_sync.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id uuid NOT NULL,
    met_at timestamptz NOT NULL,
    part text NOT NULL,
    kind text NOT NULL,
    strategy text NOT NULL,
    outcome text NOT NULL,
    source_writer text,
    target_writer text,
    sync_version bigint NOT NULL,
    conflict json NOT NULL,
    closed_at timestamptz,
    closed_by text
)",
    "CREATE INDEX conflicts_of_chunk ON chunk_sync.conflicts (chunk_id)",
    "CREATE INDEX conflicts_open ON chunk_sync.conflicts (id) WHERE outcome = 'open' AND closed_at IS NULL",
    "CREATE INDEX conflicts_settled ON chunk_sync.conflicts (coalesce(closed_at, met_at))
    WHERE outcome <> 'open' OR closed_at IS NOT NULL",
];

/// The position of capture per slot, with the server's system identifier and timeline, and an open gap.
const POSITIONS: &[&str] = &["CREATE TABLE chunk_sync.positions (
    slot text PRIMARY KEY,
    system text NOT NULL,
    timeline bigint NOT NULL,
    position pg_lsn NOT NULL,
    gap text,
    opening bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
)"];

/// The set of stores with its version, and the id by which the servers of the installation are marked.
const INSTALLATION: &[&str] = &["CREATE TABLE chunk_sync.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL,
    version bigint NOT NULL,
    stores text NOT NULL,
    filling text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL DEFAULT now()
)"];

/// The bus of installations without Redis, its reader and its dead letters. Entries are inserted and deleted all the
/// time in a table that is mostly empty, so autovacuum triggers on a number of dead rows, not on their share.
const BUS: &[&str] = &[
    "CREATE TABLE chunk_sync.bus (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    attempts integer NOT NULL DEFAULT 0,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    fields bytea[] NOT NULL,
    CONSTRAINT names_and_values CHECK (
        coalesce(array_ndims(fields), 1) = 1 AND cardinality(fields) % 2 = 0 AND array_position(fields, NULL) IS NULL)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000)",
    "CREATE TABLE chunk_sync.bus_reader (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    handed bigint NOT NULL DEFAULT 0,
    suspect bigint
) WITH (fillfactor = 10)",
    "INSERT INTO chunk_sync.bus_reader DEFAULT VALUES",
    "CREATE TABLE chunk_sync.dead (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fields bytea[] NOT NULL
)",
];

/// The events that wait. The numbers give the order, so events are added by one process at a time.
const WAITING: &[&str] = &[
    "CREATE TABLE chunk_sync.waiting (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    chunk_id uuid NOT NULL,
    entry text,
    attempt integer NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    fields bytea[] NOT NULL
)",
    "CREATE INDEX waiting_by_chunk ON chunk_sync.waiting (chunk_id, number)",
];

pub(super) const VERSIONS: &str = "CREATE TABLE chunk_sync.schema_version (
    version integer PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
)";

/// What the last write of the row had under the reserved key of `metadata`, and whether the table removed it.
const RESERVED: &[&str] = &["ALTER TABLE chunk_sync.records ADD COLUMN reserved text,
    ADD COLUMN reserved_stripped boolean NOT NULL DEFAULT false"];
