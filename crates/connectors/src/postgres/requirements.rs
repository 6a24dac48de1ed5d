//! The requirements on an existing table of chunks. Pure: the facts come from the catalogue.

use super::config::PostgresConfig;
use super::facts::{Facts, Found, table};
use super::fault::Error;
use super::row::{COLUMNS, Kind};
use super::sql::quoted;

/// Whether the table can hold every chunk, or may be created. The error states the requirement and the remedy.
pub(super) fn check(config: &PostgresConfig, facts: &Facts) -> Result<(), Error> {
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
