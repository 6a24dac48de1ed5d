//! Checks of a server: link, version, clock, rights, the table, and the requirements of capture. It reports what
//! prevents operation now or threatens it later. Read-only: creates and changes nothing.

use chunk_sync_engine::ports::{Finding, Findings};
use chunk_sync_model::Time;
use deadpool_postgres::Client;

use super::capture::CaptureConfig;
use super::config::PostgresConfig;
use super::facts::{Extension, Facts};
use super::failure::READ_ONLY;
use super::fault::Error;
use super::link::Link;
use super::pool::Pool;
use super::schema;
use super::sql::quoted;
use crate::remote;

mod replication;
mod slot;
mod times;

use super::facts;
use super::migrations;
use slot::{publication, slot};

const PLACE: &str = "postgres";

const HERE: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(),
    (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, current_setting('transaction_read_only')::boolean";

/// The rights to create a schema, to use the service's own schema and its tables, to create in the schema of the table,
/// and to read and write the table; `NULL` for a schema or table that does not exist yet.
const RIGHTS: &str = "WITH tables AS (SELECT n.nspname, c.relname, has_table_privilege(c.oid, 'SELECT')
        AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
        AND has_table_privilege(c.oid, 'DELETE') AS granted
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')),
    schemas AS (SELECT nspname, has_schema_privilege(oid, 'USAGE') AS used, has_schema_privilege(oid, 'CREATE') AS extended
        FROM pg_namespace)
    SELECT current_user::text, has_database_privilege(current_database(), 'CREATE'),
    (SELECT used AND extended FROM schemas WHERE nspname = 'chunk_sync'),
    (SELECT bool_and(granted) FROM tables WHERE nspname = 'chunk_sync'),
    (SELECT extended FROM schemas WHERE nspname = $1),
    (SELECT used AND granted FROM schemas JOIN tables USING (nspname) WHERE nspname = $1 AND relname = $2)";

const TRANSACTIONS: &str =
    "set pool_mode of the pooler to transaction or session, or set postgres.url to the server itself";

/// Checks everything that the service needs from the server, with one finding per check. Changes nothing.
pub async fn examine(config: &PostgresConfig, capture: &CaptureConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let strict = PostgresConfig { allow_insecure: false, ..config.clone() };
    if remote::examine(&mut findings, Link::of(&strict).map(drop), Link::of(config).map(drop))
        && let Err(error) = look(&mut findings, config, capture).await
    {
        findings.fault("server", &error.into_fault(PLACE));
    }
    findings.into_list()
}

async fn look(findings: &mut Findings, config: &PostgresConfig, capture: &CaptureConfig) -> Result<(), Error> {
    let pool = Pool::new(config).map_err(|fault| Error::Setup(fault.message))?;
    let client = pool.get().await?;
    let role = server(findings, &client).await?;
    if role == Role::Standby {
        // Another server is meant: what this one has decides nothing.
        return Ok(());
    }
    if pool.is_pooled() {
        // In statement mode a pooler refuses transactions, and closes the connection.
        if let Err(error) = client.batch_execute("BEGIN").await.map_err(Error::from) {
            findings.failed("pooler", format!("it refuses a transaction: {error}"), TRANSACTIONS);
            return Ok(());
        }
        client.batch_execute("ROLLBACK").await?;
        findings.ok("pooler", "postgres.url leads to a pooler; rows work through it in this mode");
    }
    let may_look = rights(findings, &client, config).await?;
    if may_look {
        hidden_rows(findings, &client, config, role).await?;
    }
    match facts::look(&client, config).await {
        Ok(facts) => {
            table(findings, config, &facts);
            times::examine(findings, &client, config, &facts).await?;
        }
        // Wrong version or encoding: the other checks are pointless then.
        Err(Error::Setup(text)) => {
            findings.failed("version", text, "use another server, or another database on it");
            return Ok(());
        }
        // The catalogue cannot be read because rights are missing, which is a finding already.
        Err(_) if !may_look => {}
        Err(error) => return Err(error),
    }
    replication::examine(findings, &client, config, capture).await?;
    slot(findings, &client, capture).await?;
    publication(findings, &client, config, capture).await
}

/// Whether the server takes writes.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Primary,
    /// A primary whose sessions are read-only.
    ReadOnly,
    Standby,
}

async fn server(findings: &mut Findings, client: &Client) -> Result<Role, Error> {
    let before = remote::now();
    let here = client.query_one(HERE, &[]).await?;
    let after = remote::now();
    findings.ok("server", format!("PostgreSQL {}", here.try_get::<_, String>(0)?));
    let role = match (here.try_get(1)?, here.try_get(3)?) {
        (true, _) => Role::Standby,
        (false, true) => Role::ReadOnly,
        (false, false) => Role::Primary,
    };
    match role {
        Role::Standby => {
            findings.failed("role", "the server is a standby, which refuses writes", "set postgres.url to the primary");
        }
        Role::ReadOnly => findings.failed("role", "the sessions of this database are read-only", READ_ONLY),
        Role::Primary => {}
    }
    findings.clock(before, Time::from_micros(here.try_get(2)?), after);
    Ok(role)
}

async fn rights(findings: &mut Findings, client: &Client, config: &PostgresConfig) -> Result<bool, Error> {
    let row = client.query_one(RIGHTS, &[&config.schema, &config.table]).await?;
    let user = quoted(row.try_get(0)?);
    let create: bool = row.try_get(1)?;
    let right = |i| row.try_get::<_, Option<bool>>(i);
    let (own, own_tables, schema, table) = (right(2)?, right(3)?, right(4)?, right(5)?);
    let (named, full) = (quoted(&config.schema), facts::table(config));
    let missing: Vec<String> = [
        (!create && (own.is_none() || schema.is_none()), format!("GRANT CREATE ON DATABASE … TO {user}")),
        (own == Some(false), format!("GRANT CREATE, USAGE ON SCHEMA chunk_sync TO {user}")),
        (own_tables == Some(false), format!("GRANT ALL ON ALL TABLES IN SCHEMA chunk_sync TO {user}")),
        (table.is_none() && schema == Some(false), format!("GRANT CREATE, USAGE ON SCHEMA {named} TO {user}")),
        (
            table == Some(false),
            format!(
                "GRANT USAGE ON SCHEMA {named} TO {user}; GRANT SELECT, INSERT, UPDATE, DELETE ON {full} TO {user}"
            ),
        ),
    ]
    .into_iter()
    .filter_map(|(is_missing, grant)| is_missing.then_some(grant))
    .collect();
    if missing.is_empty() {
        findings.ok("rights", format!("{user} has all rights that the service needs"));
    } else {
        findings.failed("rights", format!("{user} lacks rights"), missing.join("; "));
    }
    Ok(missing.is_empty())
}

/// Tries to read the table: with `row_security = off` the server refuses where row level security would hide rows.
async fn hidden_rows(
    findings: &mut Findings,
    client: &Client,
    config: &PostgresConfig,
    role: Role,
) -> Result<(), Error> {
    let table = facts::table(config);
    let there = client.query_one("SELECT to_regclass($1) IS NOT NULL, current_user::text", &[&table]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let user = quoted(there.try_get(1)?);
    // A read-only session may lock nothing.
    let lock = if role == Role::Primary { "FOR UPDATE" } else { "" };
    match client.batch_execute(&format!("SELECT 1 FROM {table} LIMIT 0 {lock}")).await.map_err(Error::from) {
        Ok(()) => findings.ok("row security", format!("hides no row of {table} from {user}")),
        Err(error) if error.hides_rows() => findings.failed(
            "row security",
            format!("row level security of {table} would hide rows from {user}, so the service does not read it"),
            format!("ALTER ROLE {user} BYPASSRLS"),
        ),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn table(findings: &mut Findings, config: &PostgresConfig, facts: &Facts) {
    const INIT: &str = "run `chunk-sync init`";
    match &facts.extension {
        Extension::Absent => findings.warning(
            "pgvector",
            "not installed: vectors are stored as real[] and jsonb, and PostgreSQL cannot search them",
            "install the extension `vector` on the server to search vectors there",
        ),
        Extension::Available => findings.ok("pgvector", "available; created together with a new table"),
        Extension::Created { sparsevec: true, .. } => findings.ok("pgvector", "installed"),
        Extension::Created { .. } => findings.warning(
            "pgvector",
            "older than 0.7: sparse vectors are stored as jsonb",
            "install a newer version on the server, then ALTER EXTENSION vector UPDATE",
        ),
    }
    let table = facts::table(config);
    if facts.columns.is_empty() && facts.version.is_some() {
        let remedy = "restore the table, or run `chunk-sync init --adopt`";
        findings.failed("table", format!("the table {table} is gone; nothing is deleted in the other stores"), remedy);
    } else if let (true, Some(other)) = (facts.columns.is_empty(), &facts.similar) {
        let text = format!("the table {table} does not exist, but {other} does");
        findings.failed("table", text, format!("set postgres.table to {other}, with its upper and lower case"));
    } else if facts.columns.is_empty() {
        findings.warning("table", format!("the table {table} does not exist yet"), INIT);
    } else {
        // Pretends that the service's own tables are current: they do not affect whether the table fits.
        let newest = i32::try_from(migrations::MIGRATIONS.len()).ok();
        match schema::layout(config, &Facts { version: newest, ..facts.clone() }) {
            Ok(layout) => {
                findings.ok("table", format!("{table} has all columns that the service needs"));
                vectors(findings, config, layout.room.dense);
            }
            Err(error) => {
                findings.failed("table", error.to_string(), "change the table, or set postgres.table to another name");
            }
        }
    }
    let newest = i32::try_from(migrations::MIGRATIONS.len()).unwrap_or(i32::MAX);
    match facts.version {
        Some(version) if version == newest => findings.ok("own tables", format!("version {version}")),
        Some(version) if version > newest => findings.failed(
            "own tables",
            format!("version {version}; this program supports {newest}"),
            "use a newer chunk-sync",
        ),
        Some(version) => findings.warning("own tables", format!("version {version}; the newest is {newest}"), INIT),
        None => findings.warning("own tables", "they do not exist yet", INIT),
    }
}

/// Warns when the vectors of the first model do not fit into their column.
fn vectors(findings: &mut Findings, config: &PostgresConfig, held: Option<usize>) {
    if let (Some(held), Some(model)) = (held, config.limits.models.first())
        && held != model.size
    {
        findings.warning(
            "dense_vector",
            format!(
                "the column holds {held} numbers; vectors of {}, the first [[embedding]], have {}",
                model.model, model.size
            ),
            "chunk_sync.embeddings stores them instead; put a model of the column's size first, or alter the column",
        );
    }
}
