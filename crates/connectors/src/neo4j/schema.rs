//! Creates and checks the unique constraints. Without them, concurrent MERGE statements create duplicates.

use chunk_sync_engine::ports::FaultClass;

use super::bolt::Statement;
use super::fault::Error;
use super::obstacle::{self, Obstacle};
use super::server::Server;

/// The labels whose `id` must be unique; those of [`CONSTRAINTS`], in their order.
const LABELS: [&str; 4] = ["Chunk", "Entity", "Project", "Dataset"];

const CONSTRAINTS: [&str; 4] = [
    "CREATE CONSTRAINT chunk_sync_chunk_id IF NOT EXISTS FOR (n:Chunk) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_project_id IF NOT EXISTS FOR (n:Project) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT chunk_sync_dataset_id IF NOT EXISTS FOR (n:Dataset) REQUIRE n.id IS UNIQUE",
];

/// Waits up to 1,200 s for the index of one constraint: another process may have just created it. Other indexes may be
/// broken, or populate for long.
const ONLINE: &str = "CALL db.awaitIndex($index, 1200)";

/// The index of a constraint has its name.
const INDEXES: &str = "SHOW CONSTRAINTS YIELD name, type, labelsOrTypes, properties
    WHERE type IN ['UNIQUENESS', 'NODE_KEY', 'NODE_PROPERTY_UNIQUENESS'] AND properties = ['id']
      AND labelsOrTypes[0] IN ['Chunk', 'Entity', 'Project', 'Dataset']
    RETURN name AS index";

const VERSION: &str =
    "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0] AS version";

/// Creates the mark of the installation, unless there is one. Two at the same moment may both create one: then each finds both
/// and refuses.
pub(super) const MARK: &str = "MERGE (n:ChunkSyncInstallation) ON CREATE SET n.id = $id";

const UNIQUE: &str = "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties
    WHERE type IN ['UNIQUENESS', 'NODE_KEY', 'NODE_PROPERTY_UNIQUENESS'] AND properties = ['id']
    RETURN labelsOrTypes[0] AS label";

/// How often the creation of a constraint is retried if concurrent transactions block it.
const ATTEMPTS: usize = 10;

/// The oldest supported version of the server: major and minor.
const OLDEST: (u32, u32) = (4, 4);

/// The statements that [`prepare`] would run now. Creates nothing.
///
/// # Errors
/// As [`prepare`].
pub(super) async fn statements(server: &Server) -> Result<Vec<&'static str>, Error> {
    version(server).await?;
    let missing = missing(server).await?;
    unobstructed(server, &missing).await?;
    Ok(LABELS.iter().zip(CONSTRAINTS).filter(|(label, _)| missing.contains(label)).map(|(_, create)| create).collect())
}

/// The statements that give a role the rights of the service, where Neo4j has roles (not in the community edition). The last
/// one is for `init` only.
#[must_use]
pub fn rights(database: &str) -> String {
    let database = format!("`{}`", database.replace('`', "``"));
    let grants = [
        "CREATE ROLE chunk_sync IF NOT EXISTS".to_owned(),
        format!("GRANT ACCESS ON DATABASE {database} TO chunk_sync"),
        format!("GRANT MATCH {{*}} ON GRAPH {database} ELEMENTS * TO chunk_sync"),
        format!("GRANT WRITE ON GRAPH {database} TO chunk_sync"),
        format!("GRANT NAME MANAGEMENT ON DATABASE {database} TO chunk_sync"),
        format!("GRANT SHOW CONSTRAINT ON DATABASE {database} TO chunk_sync"),
        format!("GRANT SHOW INDEX ON DATABASE {database} TO chunk_sync"),
        format!("GRANT CREATE CONSTRAINT ON DATABASE {database} TO chunk_sync"),
    ];
    grants.join(";\n")
}

/// Creates the missing constraints on `patient`, the server with the long deadline, and waits until they are in force.
///
/// # Errors
/// [`Error::Setup`] if the server is older than [`OLDEST`], or if something is in the way of a constraint: an index,
/// duplicates, or another constraint with its name; the message has the statement that removes it. Else the error of a
/// statement.
pub(super) async fn prepare(server: &Server, patient: &Server) -> Result<(), Error> {
    version(server).await?;
    // A user without the right to create constraints can work with a database that has them.
    let missing_before = missing(server).await?;
    if !missing_before.is_empty() {
        unobstructed(patient, &missing_before).await?;
        for statement in CONSTRAINTS {
            create(patient, statement).await?;
        }
    }
    for index in column(server, INDEXES, "index").await? {
        alone(patient, &Statement::new(ONLINE).with("index", index)).await?;
    }
    match missing(server).await?.first() {
        Some(label) => Err(Error::Setup(format!(
            "`{label}.id` has no unique constraint: another program dropped it; run `chunk-sync init` again"
        ))),
        None => Ok(()),
    }
}

async fn unobstructed(server: &Server, missing: &[&'static str]) -> Result<(), Error> {
    match obstacle::first(server, missing).await? {
        Some(Obstacle { text, remedy }) => Err(Error::Setup(format!("{text}; {remedy}"))),
        None => Ok(()),
    }
}

/// The version of the server, such as `5.26.0`.
///
/// # Errors
/// [`Error::Setup`] if it is older than [`OLDEST`]; else the error of the query.
pub(super) async fn version(server: &Server) -> Result<String, Error> {
    let version = column(server, VERSION, "version").await?.into_iter().next().unwrap_or_default();
    refuse_old(&version)?;
    Ok(version)
}

/// The labels whose `id` has no unique constraint.
pub(super) async fn missing(server: &Server) -> Result<Vec<&'static str>, Error> {
    let unique: Vec<String> = column(server, UNIQUE, "label").await?;
    Ok(LABELS.into_iter().filter(|label| !unique.iter().any(|found| found == label)).collect())
}

/// Creates one constraint. Retries, because of several processes that create the same constraint at once only one
/// succeeds.
async fn create(server: &Server, statement: &str) -> Result<(), Error> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        match alone(server, &Statement::new(statement)).await {
            Err(error) if error.class() == FaultClass::Busy && attempts.next().is_some() => {}
            done => return done,
        }
    }
}

fn refuse_old(version: &str) -> Result<(), Error> {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            let (major, minor) = OLDEST;
            Err(Error::Setup(format!("the server runs Neo4j {version}; upgrade it to {major}.{minor} or later")))
        }
        _ => Ok(()),
    }
}

/// Runs one statement in its own transaction: schema statements cannot share a transaction with data statements.
async fn alone(server: &Server, statement: &Statement) -> Result<(), Error> {
    let mut transaction = server.begin().await?;
    match transaction.run(statement).await {
        Ok(()) => transaction.commit().await,
        Err(error) => {
            transaction.rollback().await;
            Err(error)
        }
    }
}

/// The texts in a column of a statement's result.
async fn column(server: &Server, statement: &str, name: &'static str) -> Result<Vec<String>, Error> {
    server.texts(&Statement::new(statement), name).await
}
