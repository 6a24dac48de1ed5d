//! The statements that create missing tables, and the layout of existing ones. Pure; [`facts`](super::facts) reads the
//! catalogue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use chunk_sync_model::limits::SPARSE_SIZE;

use super::config::PostgresConfig;
use super::encode::Room;
use super::facts::{Extension, Facts, table};
use super::fault::Error;
use super::migrations::{MIGRATIONS, VERSIONS};
use super::requirements::{check, missing};
use super::row::{COLUMNS, Kind};
use super::sql::{Statements, quoted};

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
    /// See [`stores_as_written`](Self::stores_as_written).
    as_written: AtomicBool,
}

impl Layout {
    /// Whether the last merge that asked found neither triggers nor rules: the table stores a row as it is written. False
    /// before the first one.
    pub(super) fn stores_as_written(&self) -> bool {
        self.as_written.load(Ordering::Relaxed)
    }

    pub(super) fn note_stored_as_written(&self, as_written: bool) {
        self.as_written.store(as_written, Ordering::Relaxed);
    }
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
        as_written: AtomicBool::new(false),
    })
}
