//! The migrations that create the tables of absent rows and of the table on record.

/// The notes on absent rows, and the deletions of the last days that a comparison decided.
pub(super) const ABSENT: &[&str] = &[
    "CREATE TABLE chunk_sync.absent (
    chunk_id uuid PRIMARY KEY,
    cause text NOT NULL,
    noted_at timestamptz NOT NULL,
    position pg_lsn NOT NULL DEFAULT pg_current_wal_lsn(),
    newest_change timestamptz,
    confirmed boolean NOT NULL DEFAULT false,
    approved_at timestamptz
)",
    "CREATE TABLE chunk_sync.absence_deletions (
    chunk_id uuid NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (chunk_id, deleted_at)
)",
];

/// The table on record and the values; the floor of sync versions is part of the installation, so that no process
/// merges with an older one.
pub(super) const RECORDED_TABLE: &[&str] = &[
    "CREATE TABLE chunk_sync.recorded_table (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    system text NOT NULL,
    database oid NOT NULL,
    table_oid oid NOT NULL,
    kind text NOT NULL,
    partitions oid[] NOT NULL,
    suspicion text,
    recorded_at timestamptz NOT NULL DEFAULT now()
)",
    "CREATE TABLE chunk_sync.beats (
    value uuid PRIMARY KEY,
    inserted_at timestamptz NOT NULL DEFAULT clock_timestamp()
)",
    "ALTER TABLE chunk_sync.installation ADD COLUMN floor bigint NOT NULL DEFAULT 0",
];
