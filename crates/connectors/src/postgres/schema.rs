//! The tables: the statements that create missing ones, and the requirements on an existing table of chunks. [`look`]
//! reads the catalogue; everything else is pure.

use std::collections::BTreeMap;

use deadpool_postgres::GenericClient;

use super::config::PostgresConfig;
use super::encode::Room;
use super::fault::Error;
use super::row::{COLUMNS, Kind};
use super::sql::{Statements, quoted};
use chunk_sync_model::limits::SPARSE_SIZE;

/// The oldest supported version, in the form of `server_version_num`.
const OLDEST: i32 = 150_000;

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

/// What the last write of the row had under the reserved key of `metadata`, and whether the table removed it.
const RESERVED: &[&str] = &["ALTER TABLE chunk_sync.records ADD COLUMN reserved text,
    ADD COLUMN reserved_stripped boolean NOT NULL DEFAULT false"];

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

const VERSIONS: &str = "CREATE TABLE chunk_sync.schema_version (
    version integer PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
)";

/// The extension pgvector, with the vector types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    Absent,
    /// It is on the server but not created in the database.
    Available,
    /// It is created in this schema. `sparsevec`: whether it is new enough to have that type.
    Created {
        schema: String,
        sparsevec: bool,
    },
}

/// An existing column of the table of chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The name of its type in the catalogue, without schema: `int8`, `vector`, `_float4`.
    pub(super) type_name: String,
    /// The type as a declaration shows it.
    pub(super) declared: String,
    /// The declared length of a vector.
    pub(super) size: Option<u32>,
    pub(super) is_enum: bool,
    pub(super) not_null: bool,
    /// It has a default or is an identity column.
    pub(super) has_default: bool,
    /// It is a generated column, which cannot be written.
    pub(super) is_generated: bool,
}

/// The current state of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) extension: Extension,
    /// Whether the schema of the table of chunks exists.
    pub(super) schema: bool,
    /// Whether the schema `chunk_sync` exists.
    pub(super) own_schema: bool,
    /// The version of the service's own tables; `None` when they do not exist.
    pub(super) version: Option<i32>,
    /// The columns of the table of chunks by name; empty when the table does not exist.
    pub(super) columns: BTreeMap<String, Found>,
    /// Whether a unique index guarantees distinct ids.
    pub(super) unique: bool,
    /// The first column of each constraint and unique index, by its name.
    pub(super) constraints: BTreeMap<String, String>,
    /// A table whose name differs only in upper and lower case, quoted, if the table does not exist.
    pub(super) similar: Option<String>,
}

/// Statements and limits for the tables as they are.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) room: Room,
    /// The declared dimensions of the `sparsevec`.
    pub(super) sparse_size: u32,
    /// Whether single keys of `metadata` can be set.
    pub(super) metadata_by_key: bool,
    /// The first column of each constraint and unique index, by its name.
    pub(super) constraints: BTreeMap<String, String>,
    pub(super) statements: Statements,
}

/// The statements that create the missing schemas, tables and migrations. An existing table is examined before.
pub(super) fn statements(config: &PostgresConfig, facts: &Facts) -> Result<Vec<String>, Error> {
    check(config, facts)?;
    let mut statements = Vec::new();
    if facts.columns.is_empty() {
        if !facts.schema {
            statements.push(format!("CREATE SCHEMA {}", quoted(&config.schema)));
        }
        if facts.extension == Extension::Available {
            statements.push("CREATE EXTENSION vector".to_owned());
        }
        statements.extend(create_table(config, &facts.extension));
    }
    if !facts.own_schema {
        statements.push("CREATE SCHEMA chunk_sync".to_owned());
    }
    if facts.version.is_none() {
        statements.push(VERSIONS.to_owned());
    }
    let made = usize::try_from(facts.version.unwrap_or_default()).unwrap_or_default();
    for (version, migration) in (1..).zip(MIGRATIONS).skip(made) {
        statements.extend(migration.iter().map(|&statement| statement.to_owned()));
        statements.push(format!("INSERT INTO chunk_sync.schema_version (version) VALUES ({version})"));
    }
    Ok(statements)
}

/// Whether the table can hold every chunk, or may be created. The error states the requirement and the remedy.
fn check(config: &PostgresConfig, facts: &Facts) -> Result<(), Error> {
    let table = table(config);
    if facts.columns.is_empty() {
        return match &facts.similar {
            Some(other) => Err(Error::Setup(format!(
                "the table {table} does not exist, but {other} does; set postgres.table to that name, with its upper and lower \
                 case"
            ))),
            None => Ok(()),
        };
    }
    check_id(&table, facts)?;
    for column in COLUMNS {
        check_column(&table, column.name, column.kind, facts.columns.get(column.name))?;
    }
    check_others(&table, facts)
}

fn create_table(config: &PostgresConfig, extension: &Extension) -> Vec<String> {
    let size = config.limits.models.first().map_or(768, |model| model.size);
    let (prefix, dense, sparse) = match extension {
        Extension::Absent => (String::new(), false, false),
        Extension::Available => (String::new(), true, true),
        Extension::Created { schema, sparsevec } => (format!("{}.", quoted(schema)), true, *sparsevec),
    };
    let mut lines = vec!["    id uuid PRIMARY KEY".to_owned(), "    legacy_id text".to_owned()];
    lines.extend(COLUMNS.iter().map(|column| {
        let declared = match (column.kind, column.name) {
            (Kind::Text, _) => "text".to_owned(),
            (Kind::Int, _) => "bigint".to_owned(),
            (Kind::Real, _) => "double precision".to_owned(),
            (Kind::Bool, _) => "boolean".to_owned(),
            (Kind::Uuid, _) => "uuid".to_owned(),
            (Kind::Json, "metadata") => "jsonb DEFAULT '{}'".to_owned(),
            (Kind::Json, _) => "jsonb".to_owned(),
            (Kind::Time, "created_at" | "updated_at") => "timestamptz DEFAULT now()".to_owned(),
            (Kind::Time, _) => "timestamptz".to_owned(),
            (Kind::Dense, _) if dense => format!("{prefix}vector({size})"),
            (Kind::Dense, _) => "real[]".to_owned(),
            (Kind::Sparse, _) if sparse => format!("{prefix}sparsevec({SPARSE_SIZE})"),
            (Kind::Sparse, _) => "jsonb".to_owned(),
        };
        format!("    {} {declared}", column.name)
    }));
    let table = table(config);
    let mut statements = vec![format!("CREATE TABLE {table} (\n{}\n)", lines.join(",\n"))];
    if !dense {
        // Embeddings hardly compress, so compression would only cost time.
        statements.push(format!("ALTER TABLE {table} ALTER COLUMN dense_vector SET STORAGE EXTERNAL"));
    }
    statements
}

pub(super) fn table(config: &PostgresConfig) -> String {
    format!("{}.{}", quoted(&config.schema), quoted(&config.table))
}

/// The layout of the existing tables. The error states which requirement they violate, and the remedy.
pub(super) fn layout(config: &PostgresConfig, facts: &Facts) -> Result<Layout, Error> {
    let table = table(config);
    check(config, facts)?;
    if facts.columns.is_empty() {
        return Err(Error::Setup(missing(&table, facts.version.is_some())));
    }
    let newest = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    match facts.version {
        Some(version) if version == newest => {}
        Some(version) if version > newest => {
            return Err(Error::Setup(format!(
                "the tables in schema chunk_sync have version {version}, and this program supports {newest}; use a \
                 newer chunk-sync"
            )));
        }
        _ => {
            return Err(Error::Setup(
                "the tables in schema chunk_sync are missing or old; run `chunk-sync init`".into(),
            ));
        }
    }
    let found = |name: &str| &facts.columns[name];
    let sparse = found("sparse_vector");
    let greatest = |name: &str| match found(name).type_name.as_str() {
        "int2" => i16::MAX.into(),
        "int4" => i32::MAX.into(),
        _ => i64::MAX,
    };
    let sparse_size = sparse.size.unwrap_or(SPARSE_SIZE);
    Ok(Layout {
        room: Room {
            dense: found("dense_vector").size.map(|size| size as usize),
            sparse: (sparse.type_name == "sparsevec").then_some(sparse_size),
            numbers: ["start_line", "end_line", "start_char", "end_char"].map(greatest),
            confidence: found("confidence").type_name == "float8",
        },
        sparse_size,
        constraints: facts.constraints.clone(),
        metadata_by_key: found("metadata").type_name == "jsonb",
        statements: Statements::new(&table, config.limits.row_max_bytes),
    })
}

/// The message for a table that does not exist. `known` states that `init` ran before, when the table was there.
pub(super) fn missing(table: &str, known: bool) -> String {
    if known {
        return format!(
            "the table {table} is gone: it existed when `chunk-sync init` ran; restore it, or accept another one with \
             `chunk-sync init --adopt`"
        );
    }
    format!("the table {table} does not exist; run `chunk-sync init`")
}

fn check_id(table: &str, facts: &Facts) -> Result<(), Error> {
    match facts.columns.get("id") {
        Some(id) if id.type_name == "uuid" && facts.unique => Ok(()),
        Some(id) if id.type_name == "uuid" => {
            Err(Error::Setup(format!("{table} has no unique index on id; ALTER TABLE {table} ADD PRIMARY KEY (id)")))
        }
        Some(id) => Err(Error::Setup(format!("column id of {table} has type {}; it must be uuid", id.declared))),
        None => Err(Error::Setup(format!("{table} has no column id; add a column id of type uuid as its primary key"))),
    }
}

fn check_column(table: &str, name: &str, kind: Kind, found: Option<&Found>) -> Result<(), Error> {
    let types = types(kind);
    let Some(found) = found else {
        return Err(Error::Setup(format!(
            "{table} has no column {name}; ALTER TABLE {table} ADD COLUMN {name} {}",
            types[0].1
        )));
    };
    let named = types.iter().any(|(type_name, _)| *type_name == found.type_name);
    let serves = named || (kind == Kind::Text && found.is_enum);
    if found.type_name == "halfvec" {
        let size = found.size.map_or_else(String::new, |size| format!("({size})"));
        return Err(Error::Setup(format!(
            "column {name} of {table} has type {}, which rounds what it stores; ALTER TABLE {table} ALTER COLUMN {name} TYPE \
             vector{size}, and index it as halfvec: USING hnsw (({name}::halfvec{size}) halfvec_cosine_ops)",
            found.declared
        )));
    }
    if !serves {
        let wanted: Vec<_> = types.iter().map(|(_, declared)| *declared).collect();
        return Err(Error::Setup(format!(
            "column {name} of {table} has type {}; it must be one of {}",
            found.declared,
            wanted.join(", ")
        )));
    }
    if found.is_generated {
        return Err(Error::Setup(format!(
            "column {name} of {table} is generated and cannot be written; ALTER TABLE {table} ALTER COLUMN {name} \
             DROP EXPRESSION"
        )));
    }
    if found.not_null && !ALWAYS.contains(&name) {
        return Err(Error::Setup(format!(
            "column {name} of {table} is NOT NULL, and not every chunk has a value for it; ALTER TABLE {table} \
             ALTER COLUMN {name} DROP NOT NULL"
        )));
    }
    Ok(())
}

/// Columns that are never written as NULL.
const ALWAYS: &[&str] =
    &["content", "chunk_type", "source_type", "entity_refs", "metadata", "created_at", "updated_at"];

/// The types that can hold a kind, by their names in the catalogue and in a declaration; the first is used in the
/// remedy.
fn types(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Text => &[("text", "text"), ("varchar", "varchar")],
        Kind::Int => &[("int8", "bigint"), ("int4", "integer"), ("int2", "smallint")],
        Kind::Real => &[("float8", "double precision"), ("float4", "real")],
        Kind::Bool => &[("bool", "boolean")],
        Kind::Uuid => &[("uuid", "uuid")],
        Kind::Json => &[("jsonb", "jsonb"), ("json", "json")],
        Kind::Time => &[("timestamptz", "timestamptz"), ("timestamp", "timestamp")],
        Kind::Dense => &[("_float4", "real[]"), ("vector", "vector")],
        Kind::Sparse => &[("jsonb", "jsonb"), ("json", "json"), ("sparsevec", "sparsevec")],
    }
}

/// Ignores columns that the service does not know, unless a row cannot be inserted without a value for them.
fn check_others(table: &str, facts: &Facts) -> Result<(), Error> {
    let known = |name: &str| name == "id" || name == "legacy_id" || COLUMNS.iter().any(|column| column.name == name);
    let stuck = |found: &Found| found.not_null && !found.has_default && !found.is_generated;
    if let Some((name, _)) =
        facts.columns.iter().find(|(name, found)| (!known(name) || *name == "legacy_id") && stuck(found))
    {
        let name = quoted(name);
        return Err(Error::Setup(format!(
            "column {name} of {table} is NOT NULL without a default, and the service has no value for it; \
             ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"
        )));
    }
    let others: Vec<&str> = facts.columns.keys().map(String::as_str).filter(|name| !known(name)).collect();
    if !others.is_empty() {
        tracing::info!(table, columns = others.join(", "), "ignoring columns that the service does not know");
    }
    Ok(())
}

/// Keeps other processes from creating tables at the same time, until the transaction ends.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('chunk_sync: prepare', 0))";

const SERVER: &str = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    current_setting('server_encoding')";

const PRESENT: &str = "SELECT
    EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
    EXISTS (SELECT FROM pg_namespace WHERE nspname = 'chunk_sync'),
    to_regclass('chunk_sync.schema_version') IS NOT NULL,
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
    (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),
    EXISTS (SELECT FROM pg_extension e JOIN pg_type t ON t.typnamespace = e.extnamespace
            WHERE e.extname = 'vector' AND t.typname = 'sparsevec'),
    EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            WHERE n.nspname = $1 AND c.relname = $2 AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attname = 'id'),
    (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE lower(n.nspname) = lower($1) AND lower(c.relname) = lower($2)
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY n.nspname <> $1, c.relname LIMIT 1)";

/// A domain counts as the type that it restricts.
const COLUMNS_THERE: &str = "SELECT a.attname::text, t.typname::text, format_type(a.atttypid, a.atttypmod),
    CASE WHEN t.oid = a.atttypid THEN a.atttypmod ELSE t.typmod END,
    t.typtype = 'e', a.attnotnull OR t.is_not_null, a.atthasdef OR a.attidentity <> '', a.attgenerated <> ''
    FROM pg_attribute a JOIN LATERAL (
        WITH RECURSIVE base AS (
            SELECT oid, typname, typtype, typbasetype, -1 AS typmod, false AS is_not_null
            FROM pg_type WHERE oid = a.atttypid
            UNION ALL SELECT u.oid, u.typname, u.typtype, u.typbasetype, d.typtypmod, base.is_not_null OR d.typnotnull
            FROM base JOIN pg_type d ON d.oid = base.oid JOIN pg_type u ON u.oid = base.typbasetype)
        SELECT * FROM base WHERE typbasetype = 0) t ON true
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// An error names the constraint or unique index, not its columns.
const CONSTRAINTS: &str = "WITH keys AS (
        SELECT conname::text AS name, conrelid AS relation, conkey[1] AS column FROM pg_constraint
        UNION SELECT x.relname::text, i.indrelid, i.indkey[0] FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indisunique)
    SELECT k.name, a.attname::text FROM keys k JOIN pg_class c ON c.oid = k.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.column AND a.attnum > 0
    WHERE n.nspname = $1 AND c.relname = $2";

/// Reads the state of the database from its catalogue. Fails when server version or encoding is not supported.
pub(super) async fn look(client: &impl GenericClient, config: &PostgresConfig) -> Result<Facts, Error> {
    let server = client.query_one(SERVER, &[]).await?;
    check_server(server.try_get(0)?, server.try_get(1)?, server.try_get(2)?)?;
    let present = client.query_one(PRESENT, &[&config.schema, &config.table]).await?;
    let version = match present.try_get(2)? {
        true => client.query_one("SELECT max(version) FROM chunk_sync.schema_version", &[]).await?.try_get(0)?,
        false => None,
    };
    let extension = match present.try_get::<_, Option<String>>(4)? {
        Some(schema) => Extension::Created { schema, sparsevec: present.try_get(5)? },
        None if present.try_get(3)? => Extension::Available,
        None => Extension::Absent,
    };
    let mut columns = BTreeMap::new();
    for row in client.query(COLUMNS_THERE, &[&config.schema, &config.table]).await? {
        let type_name: String = row.try_get(1)?;
        let sized = matches!(type_name.as_str(), "vector" | "halfvec" | "sparsevec");
        let size = u32::try_from(row.try_get::<_, i32>(3)?).ok().filter(|_| sized);
        let found = Found {
            type_name,
            declared: row.try_get(2)?,
            size,
            is_enum: row.try_get(4)?,
            not_null: row.try_get(5)?,
            has_default: row.try_get(6)?,
            is_generated: row.try_get(7)?,
        };
        columns.insert(row.try_get(0)?, found);
    }
    let mut constraints = BTreeMap::new();
    for row in client.query(CONSTRAINTS, &[&config.schema, &config.table]).await? {
        constraints.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(Facts {
        extension,
        schema: present.try_get(0)?,
        own_schema: present.try_get(1)?,
        version,
        columns,
        unique: present.try_get(6)?,
        constraints,
        similar: present.try_get(7)?,
    })
}

fn check_server(number: i32, version: &str, encoding: &str) -> Result<(), Error> {
    if number < OLDEST {
        return Err(Error::Setup(format!("the server is PostgreSQL {version}; use 15 or later")));
    }
    if encoding != "UTF8" {
        return Err(Error::Setup(format!(
            "the database is encoded in {encoding}, which cannot hold every text; create one with ENCODING 'UTF8'"
        )));
    }
    Ok(())
}
