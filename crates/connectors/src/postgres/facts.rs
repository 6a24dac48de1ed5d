//! What the database holds: [`look`] reads the catalogue.

use std::collections::BTreeMap;

use deadpool_postgres::GenericClient;

use super::config::PostgresConfig;
use super::fault::Error;
use super::sql::quoted;

/// The oldest supported version, in the form of `server_version_num`.
const OLDEST: i32 = 150_000;

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

pub(super) fn table(config: &PostgresConfig) -> String {
    format!("{}.{}", quoted(&config.schema), quoted(&config.table))
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
