//! The constraints without which MERGE is not unique, and the look at what is there.

use chunk_sync_engine::ports::FaultClass;
use neo4rs::query;

use super::fault::Error;
use super::server::Server;

/// The labels whose `id` is unique.
const LABELS: [&str; 4] = ["Chunk", "Entity", "Project", "Dataset"];

const CONSTRAINTS: [&str; 4] = [
    "CREATE CONSTRAINT chunk_sync_chunk_id IF NOT EXISTS FOR (n:Chunk) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_project_id IF NOT EXISTS FOR (n:Project) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_dataset_id IF NOT EXISTS FOR (n:Dataset) REQUIRE n.id IS UNIQUE",
];

/// An index that others have just asked for may still be in the making.
const ONLINE: &str = "CALL db.awaitIndexes(1200)";

const VERSION: &str =
    "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0] AS version";

const UNIQUE: &str = "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties
    WHERE type IN ['UNIQUENESS', 'NODE_KEY', 'NODE_PROPERTY_UNIQUENESS'] AND properties = ['id']
    RETURN labelsOrTypes[0] AS label";

/// How often a constraint is asked for again where others are in the way.
const ATTEMPTS: usize = 10;

/// The oldest server whose Cypher is spoken.
const OLDEST: u32 = 5;

/// The statements that set a database up; each is safe to repeat.
#[must_use]
pub fn statements() -> &'static [&'static str] {
    &CONSTRAINTS
}

/// Creates what is missing, waits until it is in force, and refuses a server or a constraint that will not do.
pub(super) async fn prepare(server: &Server, patient: &Server) -> Result<(), Error> {
    version(server).await?;
    // Where all are there nothing is asked for, not even the right to create them.
    if !missing(server).await?.is_empty() {
        for statement in CONSTRAINTS {
            create(patient, statement).await?;
        }
    }
    alone(patient, ONLINE).await?;
    match missing(server).await?.first() {
        Some(label) => Err(Error::Setup(format!(
            "{label}.id has no unique constraint, though one is named as ours is: see SHOW CONSTRAINTS"
        ))),
        None => Ok(()),
    }
}

/// The version of the server, unless it is too old.
pub(super) async fn version(server: &Server) -> Result<String, Error> {
    let version = column(server, VERSION, "version").await?.into_iter().next().unwrap_or_default();
    refuse_old(&version)?;
    Ok(version)
}

/// The labels whose `id` is not unique.
pub(super) async fn missing(server: &Server) -> Result<Vec<&'static str>, Error> {
    let unique: Vec<String> = column(server, UNIQUE, "label").await?;
    Ok(LABELS.into_iter().filter(|label| !unique.iter().any(|found| found == label)).collect())
}

/// Those who do the same at the same time are in each other's way, but for one.
async fn create(server: &Server, statement: &str) -> Result<(), Error> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        match alone(server, statement).await {
            Err(error) if error.class() == FaultClass::Busy && attempts.next().is_some() => {}
            done => return done,
        }
    }
}

fn refuse_old(version: &str) -> Result<(), Error> {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST => {
            Err(Error::Setup(format!("the server is Neo4j {version}; {OLDEST} or later is needed")))
        }
        _ => Ok(()),
    }
}

/// Statements on the schema share no transaction with others.
async fn alone(server: &Server, statement: &str) -> Result<(), Error> {
    let mut transaction = server.begin().await?;
    match transaction.run(query(statement)).await {
        Ok(()) => transaction.commit().await,
        Err(error) => {
            transaction.rollback().await;
            Err(error)
        }
    }
}

async fn column(server: &Server, statement: &str, name: &str) -> Result<Vec<String>, Error> {
    let mut transaction = server.begin().await?;
    let rows = transaction.rows(query(statement)).await;
    transaction.rollback().await;
    rows?.iter().map(|row| Ok(row.get(name)?)).collect()
}
