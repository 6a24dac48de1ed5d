//! The table on record: which table `init` accepted, by system identifier, database, oid, kind and partitions; and the
//! random values that reveal a restore.
//!
//! Another table under the name, a partition that left, another database or a restore are suspicions. They stay recorded
//! until `init --adopt`.
//!
//! A merge writes no row into another table under the name: when the table on record gets its name back, rows in the
//! other one are lost. The events that would write wait.

use chunk_sync_engine::ports::{Fence, RecordedTable, Suspicion};
use deadpool_postgres::{Client, GenericClient};
use tokio_postgres::{IsolationLevel, Row};

use super::config::PostgresConfig;
use super::facts::table;
use super::fault::Error;
use super::fence;
use super::records::PostgresRecords;
use super::transaction::{begin, execute, set_locally};

const SUSPECT: &str = "UPDATE chunk_sync.recorded_table SET suspicion = $1 WHERE suspicion IS NULL";

pub(super) const BEAT: &str = "INSERT INTO chunk_sync.beats (value) VALUES ($1) ON CONFLICT DO NOTHING";

pub(super) const FORGET_BEATS: &str =
    "DELETE FROM chunk_sync.beats WHERE inserted_at < clock_timestamp() - interval '7 days'";

pub(super) const HAS_BEAT: &str = "SELECT 1 FROM chunk_sync.beats WHERE value = $1";

/// The server, the database and the table as they are now; the table's columns are null if it does not exist.
const NOW: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()), d.oid, c.oid, c.relkind::text, \
    ARRAY(SELECT t.relid::oid FROM pg_partition_tree(c.oid) t WHERE t.relid <> c.oid ORDER BY 1) \
    FROM pg_database d LEFT JOIN pg_class c ON c.oid = to_regclass($1) WHERE d.datname = current_database()";

/// False before `init` of this version has created the tables.
const THERE: &str = "SELECT to_regclass('chunk_sync.recorded_table') IS NOT NULL";

const RECORDED: &str = "SELECT system, database, table_oid, kind, partitions, suspicion FROM chunk_sync.recorded_table";

const RECORD: &str = "INSERT INTO chunk_sync.recorded_table (system, database, table_oid, kind, partitions) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (one) DO UPDATE SET system = excluded.system, \
    database = excluded.database, table_oid = excluded.table_oid, kind = excluded.kind, \
    partitions = excluded.partitions, suspicion = NULL, recorded_at = now()";

pub(super) const RECORD_PARTITIONS: &str = "UPDATE chunk_sync.recorded_table SET partitions = $1";

/// The oid of the table on record, if the table `$1` is another one.
const OTHER: &str = "SELECT table_oid FROM chunk_sync.recorded_table \
    WHERE table_oid IS DISTINCT FROM to_regclass($1)::oid";

/// A table by everything that distinguishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system: String,
    pub(super) database: u32,
    pub(super) table: u32,
    pub(super) kind: String,
    pub(super) partitions: Vec<u32>,
}

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnRecord {
    pub(super) identity: Identity,
    pub(super) suspicion: Option<String>,
}

/// Compares the table `name` as it is now (`None`: it does not exist) with the recorded one.
pub(super) fn compare(name: &str, recorded: &Identity, now: Option<&Identity>, server: &Server) -> RecordedTable {
    let suspect = |text: String| RecordedTable::Suspect(Suspicion { text });
    if server.system != recorded.system {
        return suspect(format!(
            "the server has the system identifier {}, and the table on record is on {}",
            server.system, recorded.system
        ));
    }
    if server.database != recorded.database {
        return suspect(format!(
            "the database has oid {}, and the table on record is in the database {}: this is a copy or a restore",
            server.database, recorded.database
        ));
    }
    let Some(now) = now else {
        return suspect(format!("the table {name} on record, oid {}, is gone", recorded.table));
    };
    if (now.table, &now.kind) != (recorded.table, &recorded.kind) {
        return suspect(format!(
            "{name} is another table: oid {} of kind {}, and on record is oid {} of kind {}",
            now.table, now.kind, recorded.table, recorded.kind
        ));
    }
    let left: Vec<u32> = recorded.partitions.iter().filter(|oid| !now.partitions.contains(oid)).copied().collect();
    if !left.is_empty() {
        return suspect(format!("partitions of {name} on record were detached or dropped: oids {left:?}"));
    }
    match now.partitions.len() > recorded.partitions.len() {
        true => RecordedTable::NewPartitions(now.partitions.clone()),
        false => RecordedTable::Same,
    }
}

/// The server and the database that a connection reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) system: String,
    pub(super) database: u32,
}

/// The table as it is now.
pub(super) async fn now(
    client: &impl GenericClient,
    config: &PostgresConfig,
) -> Result<(Server, Option<Identity>), Error> {
    let row = client.query_one(NOW, &[&table(config)]).await?;
    let server = Server { system: row.try_get(0)?, database: row.try_get(1)? };
    let identity = match row.try_get::<_, Option<u32>>(2)? {
        None => None,
        Some(oid) => Some(Identity {
            system: server.system.clone(),
            database: server.database,
            table: oid,
            kind: row.try_get(3)?,
            partitions: row.try_get(4)?,
        }),
    };
    Ok((server, identity))
}

/// The recorded table; `None` if `init` of this version has not recorded one.
pub(super) async fn recorded(client: &impl GenericClient) -> Result<Option<OnRecord>, Error> {
    if !client.query_one(THERE, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    client.query_opt(RECORDED, &[]).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<OnRecord, Error> {
    let identity = Identity {
        system: row.try_get(0)?,
        database: row.try_get(1)?,
        table: row.try_get(2)?,
        kind: row.try_get(3)?,
        partitions: row.try_get(4)?,
    };
    Ok(OnRecord { identity, suspicion: row.try_get(5)? })
}

/// The suspicion that is recorded, or that the table raises now.
pub(super) async fn suspicion(
    client: &impl GenericClient,
    config: &PostgresConfig,
) -> Result<Option<Suspicion>, Error> {
    let Some(recorded) = recorded(client).await? else { return Ok(None) };
    if let Some(text) = recorded.suspicion {
        return Ok(Some(Suspicion { text }));
    }
    let (server, identity) = now(client, config).await?;
    match compare(&table(config), &recorded.identity, identity.as_ref(), &server) {
        RecordedTable::Suspect(suspicion) => Ok(Some(suspicion)),
        RecordedTable::Same | RecordedTable::NewPartitions(_) => Ok(None),
    }
}

/// Fails if the table is another one than that on record. The caller holds a lock on the table, so that it stays the same
/// until the transaction ends.
///
/// # Errors
/// [`Error::OtherTable`], or the error of the query.
pub(super) async fn check(client: &Client, config: &PostgresConfig) -> Result<(), Error> {
    let name = table(config);
    let other = client.query_opt(&client.prepare_cached(OTHER).await?, &[&name]).await?;
    other.map_or(Ok(()), |row| Err(Error::OtherTable(name, row.try_get(0)?)))
}

/// Records the table as it is now, without a suspicion.
pub(super) async fn record(client: &impl GenericClient, identity: &Identity) -> Result<(), Error> {
    let Identity { system, database, table, kind, partitions } = identity;
    client.execute(RECORD, &[system, database, table, kind, partitions]).await?;
    Ok(())
}

impl PostgresRecords {
    pub(super) async fn compare_table(&self) -> Result<RecordedTable, Error> {
        let client = self.pool.get().await?;
        let compared = self.pool.within(async {
            let Some(recorded) = recorded(&client).await? else { return Ok(RecordedTable::Same) };
            let (server, identity) = now(&client, &self.config).await?;
            Ok(compare(&table(&self.config), &recorded.identity, identity.as_ref(), &server))
        });
        let compared = compared.await;
        self.pool.settle(client, compared)
    }

    pub(super) async fn recorded_suspicion(&self) -> Result<Option<Suspicion>, Error> {
        let client = self.pool.get().await?;
        let found = self.pool.within(recorded(&client)).await;
        let recorded = self.pool.settle(client, found)?;
        Ok(recorded.and_then(|recorded| recorded.suspicion).map(|text| Suspicion { text }))
    }

    /// Records the suspicion in a transaction with that fence: an adoption waits for it, or it fails.
    pub(super) async fn write_suspicion(&self, suspicion: &Suspicion, fence: &Fence) -> Result<(), Error> {
        let mut client = self.pool.get().await?;
        let written = self.pool.within(async {
            let transaction = begin(&mut client, IsolationLevel::ReadCommitted, false).await?;
            set_locally(&transaction, self.config.lock_timeout).await?;
            fence::check(&transaction, fence).await?;
            execute(&transaction, SUSPECT, &[&suspicion.text]).await?;
            Ok(transaction.commit().await?)
        });
        let written = written.await;
        self.pool.settle(client, written)
    }

    /// Records the table as it is now, unless one is recorded and `adopt` is false.
    pub(super) async fn write_table(&self, adopt: bool) -> Result<(), Error> {
        let client = self.pool.get().await?;
        let written = self.pool.within(async {
            if !adopt && recorded(&client).await?.is_some() {
                return Ok(());
            }
            match now(&client, &self.config).await? {
                (_, Some(identity)) => record(&client, &identity).await,
                (_, None) => Ok(()),
            }
        });
        let written = written.await;
        self.pool.settle(client, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let (system, kind) = ("7".to_owned(), "p".to_owned());
        Identity { system, database: 5, table: 16_384, kind, partitions: vec![16_390, 16_395] }
    }

    fn server() -> Server {
        Server { system: "7".into(), database: 5 }
    }

    fn suspicion(server: &Server, now: Option<&Identity>) -> String {
        match compare("unified.chunks", &identity(), now, server) {
            RecordedTable::Suspect(suspicion) => suspicion.text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_table_on_record_raises_no_suspicion() {
        assert_eq!(compare("t", &identity(), Some(&identity()), &server()), RecordedTable::Same);
        let grown = Identity { partitions: vec![16_390, 16_395, 16_400], ..identity() };
        assert_eq!(compare("t", &identity(), Some(&grown), &server()), RecordedTable::NewPartitions(grown.partitions));
    }

    #[test]
    fn every_other_table_does() {
        let now = identity();
        assert!(suspicion(&Server { system: "8".into(), ..server() }, Some(&now)).contains("system identifier 8"));
        assert!(suspicion(&Server { database: 6, ..server() }, Some(&now)).contains("a copy or a restore"));
        assert!(suspicion(&server(), None).contains("is gone"));
        assert!(suspicion(&server(), Some(&Identity { table: 9, ..identity() })).contains("another table: oid 9"));
        assert!(suspicion(&server(), Some(&Identity { kind: "v".into(), ..identity() })).contains("of kind v"));
        let left = Identity { partitions: vec![16_390, 16_400], ..identity() };
        assert!(suspicion(&server(), Some(&left)).contains("oids [16395]"));
    }
}
