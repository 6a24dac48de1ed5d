//! The projection. Writes each batch in one transaction, retries it if concurrent transactions block it, and halves it
//! if the server refuses one of its writes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use chunk_sync_engine::ports::{Applied, Counts, Fault, FaultClass, Store, StoredDocument, StoredFingerprint, Write};
use chunk_sync_model::document::{Fingerprint, GraphDocument};
use chunk_sync_model::{State, Target};
use neo4rs::{BoltType, Query, Row, query};
use uuid::Uuid;

use super::config::Neo4jConfig;
use super::cypher;
use super::decode::{StoredNode, held};
use super::encode::{Change, change, text};
use super::fault::{Error, WRITE};
use super::plan::{self, Statement, Step};
use super::schema;
use super::server::{Server, Transaction};

const READ: &str = "neo4j: read";

/// The counts reported beside the number of chunks.
const OTHERS: [&str; 3] = ["entities", "entity_links", "relations"];

/// Chunks in one transaction.
const BATCH: usize = 256;

/// How often a transaction is retried if concurrent transactions block it, and the first and the longest pause.
const RETRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Deadline for creating a constraint on a graph that is already large.
const BUILDING: Duration = Duration::from_secs(1800);

/// The graph projection in one Neo4j database.
pub struct Neo4jStore {
    server: Server,
    /// The same server with the deadline [`BUILDING`], for creating constraints.
    patient: Server,
}

impl Neo4jStore {
    /// A store on the server of `config`. The first call connects.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL has an unknown scheme, or contains a user name or
    /// password.
    pub fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        let patient = Neo4jConfig { timeout: config.timeout.max(BUILDING), ..config.clone() };
        Ok(Self { server: Server::new(config)?, patient: Server::new(&patient)? })
    }

    /// Writes a batch, sorted by id, atomically. Retries while concurrent transactions block it.
    async fn persist(&self, batch: &[IndexedChange]) -> Result<Vec<Applied>, Error> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(RETRIES)
            .with_jitter()
            .build();
        loop {
            match self.attempt(batch).await {
                Err(error) if error.class() == FaultClass::Busy && !error.wants_less() => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    async fn attempt(&self, batch: &[IndexedChange]) -> Result<Vec<Applied>, Error> {
        let mut transaction = self.server.begin().await?;
        match write(&mut transaction, batch).await {
            Ok(applied) => transaction.commit().await.map(|()| applied),
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Runs one statement, rolls it back, and returns its rows.
    pub(super) async fn rows(&self, query: Query) -> Result<Vec<Row>, Error> {
        let mut transaction = self.server.begin().await?;
        let rows = transaction.rows(query).await;
        transaction.rollback().await;
        rows
    }

    /// Runs one statement for what it does.
    pub(super) async fn run(&self, query: Query) -> Result<(), Error> {
        let mut transaction = self.server.begin().await?;
        match transaction.run(query).await {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    async fn documents(&self, which: Which<'_>) -> Result<Vec<StoredNode>, Error> {
        let mut transaction = self.server.begin().await?;
        let held = documents(&mut transaction, which).await;
        transaction.rollback().await;
        held
    }
}

/// Selects the documents to read: by id, or a page of at most so many above an id.
enum Which<'a> {
    These(&'a [String]),
    Above(Option<Uuid>, usize),
}

/// A write, with its index in the slice passed to `apply`.
struct IndexedChange {
    index: usize,
    change: Change,
}

#[async_trait]
impl Store for Neo4jStore {
    fn target(&self) -> Target {
        Target::Neo4j
    }

    async fn prepare(&self) -> Result<(), Fault> {
        schema::prepare(&self.server, &self.patient).await.map_err(|error| error.into_fault("neo4j: constraints"))
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let mut answers = BTreeMap::new();
        let mut changes = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match change(write) {
                Ok(change) => changes.push(IndexedChange { index, change }),
                Err(fault) => {
                    answers.insert(index, Applied::Failed(fault));
                }
            }
        }
        changes.sort_unstable_by(|a, b| a.change.id.cmp(&b.change.id));
        let mut batches: Vec<_> = changes.rchunks(BATCH).collect();
        while let Some(batch) = batches.pop() {
            match self.persist(batch).await {
                Ok(applied) => answers.extend(batch.iter().map(|change| change.index).zip(applied)),
                Err(error) if error.wants_less() && batch.len() > 1 => {
                    let (front, back) = batch.split_at(batch.len() / 2);
                    batches.extend([back, front]);
                }
                Err(error) => {
                    let fault = error.into_fault(WRITE);
                    // Each further batch would wait for the timeout of a server that does not respond.
                    let all = !matches!(fault.class, FaultClass::Busy | FaultClass::Rejected);
                    let others = if all { std::mem::take(&mut batches) } else { Vec::new() };
                    let failed = others.into_iter().flatten().chain(batch);
                    answers.extend(failed.map(|change| (change.index, Applied::Failed(fault.clone()))));
                }
            }
        }
        answers.into_values().collect()
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let texts: Vec<String> = ids.iter().copied().map(text).collect();
        let documents = self.documents(Which::These(&texts)).await.map_err(|error| error.into_fault(READ))?;
        let fetched = documents.into_iter().filter_map(StoredNode::into_document);
        let mut by_id: HashMap<_, _> = fetched.map(|document| (document.id, document)).collect();
        Ok(ids.iter().map(|id| by_id.remove(id)).collect())
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        let documents = self.documents(Which::Above(after, limit)).await.map_err(|error| error.into_fault(READ))?;
        Ok(documents.iter().filter_map(StoredNode::fingerprint).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        GraphDocument::of(state).fingerprint()
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let rows = self.rows(query(cypher::COUNTS)).await.map_err(|error| error.into_fault(READ))?;
        let mut counts = Counts { chunks: 0, others: OTHERS.into_iter().map(|name| (name, 0)).collect() };
        for row in rows {
            let undecodable = |error| Error::Answer(error).into_fault(READ);
            let name: String = row.get("name").map_err(undecodable)?;
            let count = row.get("count").map_err(undecodable)?;
            match counts.others.get_mut(name.as_str()) {
                Some(other) => *other = count,
                None => counts.chunks = count,
            }
        }
        Ok(counts)
    }

    async fn check(&self) -> Result<(), Fault> {
        self.rows(query(cypher::CHECK)).await.map(drop).map_err(|error| error.into_fault("neo4j: check"))
    }
}

/// Writes a batch in an open transaction: locks the chunks, reads them, and runs the statements for the difference.
///
/// # Errors
/// [`Error::Vanished`] if another client deletes a chunk or entity before it is locked; else the error of a statement.
async fn write(transaction: &mut Transaction<'_>, batch: &[IndexedChange]) -> Result<Vec<Applied>, Error> {
    let ids: Vec<String> = batch.iter().map(|IndexedChange { change, .. }| change.id.clone()).collect();
    transaction.run_on(cypher::LOCK_CHUNKS, "ids", values(&ids)).await?;
    let held = documents(transaction, Which::These(&ids)).await?;
    let held: HashMap<&str, &StoredNode> = held.iter().map(|held| (held.id.as_str(), held)).collect();
    let mut steps = Vec::with_capacity(batch.len());
    let mut applied = Vec::with_capacity(batch.len());
    for IndexedChange { change, .. } in batch {
        let held = *held.get(change.id.as_str()).ok_or(Error::Vanished)?;
        if held.version.is_some_and(|held| held >= change.version) {
            applied.push(Applied::Skipped);
        } else {
            applied.push(Applied::Written);
            steps.push(Step::new(change, held));
        }
    }
    lock_entities(transaction, plan::entities(&steps)).await?;
    for Statement { text, parameter, rows } in plan::statements(&steps) {
        transaction.run_on(text, parameter, rows).await?;
    }
    Ok(applied)
}

async fn lock_entities(transaction: &mut Transaction<'_>, ids: Vec<BoltType>) -> Result<(), Error> {
    let wanted = ids.len();
    transaction.run_on(cypher::LOCK_ENTITIES, "ids", ids.clone()).await?;
    let mut found = 0;
    for row in transaction.rows_on(cypher::COUNT_ENTITIES, "ids", ids).await? {
        found += row.get::<usize>("count")?;
    }
    if found == wanted { Ok(()) } else { Err(Error::Vanished) }
}

/// Reads the stored documents of chunks with their relations.
async fn documents(transaction: &mut Transaction<'_>, which: Which<'_>) -> Result<Vec<StoredNode>, Error> {
    let documents = match which {
        Which::These(ids) => transaction.rows_on(cypher::READ, "ids", values(ids)).await?,
        Which::Above(after, limit) => {
            let scan = query(cypher::SCAN)
                .param("after", after.map_or_else(String::new, text))
                .param("limit", i64::try_from(limit).unwrap_or(i64::MAX));
            transaction.rows(scan).await?
        }
    };
    let found = documents.iter().map(|row| row.get("id")).collect::<Result<Vec<String>, _>>()?;
    let relations = transaction.rows_on(cypher::EVIDENCE, "ids", values(&found)).await?;
    held(&documents, &relations)
}

fn values(texts: &[String]) -> Vec<BoltType> {
    texts.iter().map(|text| text.as_str().into()).collect()
}
