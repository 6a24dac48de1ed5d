//! The projection. Writes a batch in transactions of a planned number of chunks, and retries one that concurrent
//! transactions block.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, FaultClass, Projection, StoredDocument, Write};
use chunk_sync_model::document::{Document, GraphDocument};
use chunk_sync_model::{State, Target};
use uuid::Uuid;

use super::bolt::{Row, Statement, Value};
use super::config::Neo4jConfig;
use super::cypher;
use super::decode::{StoredNode, held};
use super::encode::{Change, change, text};
use super::fault::Error;
use super::groups::{Groups, Known};
use super::plan::{self, Step};
use super::schema;
use super::server::{Server, Transaction};

const READ: &str = "neo4j: read";

/// The counts reported beside the number of chunks.
const OTHERS: [&str; 3] = ["entities", "entity_links", "relations"];

/// Chunks in one transaction.
const BATCH: usize = 1024;

/// How often a transaction is retried if concurrent transactions block it, and the first and the longest pause.
const RETRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Deadline for creating a constraint on a graph that is already large.
const BUILDING: Duration = Duration::from_secs(1800);

/// The graph projection in one Neo4j database.
pub struct Neo4jStore {
    pub(super) server: Server,
    known: Known,
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
        Ok(Self { server: Server::new(config)?, known: Known::default(), patient: Server::new(&patient)? })
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
                Err(error) if error.class() == FaultClass::Busy && !error.is_out_of_memory() => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    async fn attempt(&self, batch: &[IndexedChange]) -> Result<Vec<Applied>, Error> {
        let mut transaction = self.server.begin().await?;
        match write(&mut transaction, batch, &self.known).await {
            Ok((applied, groups)) => {
                transaction.commit().await?;
                self.known.note(groups);
                Ok(applied)
            }
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Runs one statement, rolls it back, and returns its rows.
    pub(super) async fn rows(&self, statement: &Statement) -> Result<Vec<Row>, Error> {
        let mut transaction = self.server.begin().await?;
        let rows = transaction.rows(statement).await;
        transaction.rollback().await;
        rows
    }

    /// Runs one statement for what it does.
    pub(super) async fn run(&self, statement: &Statement) -> Result<(), Error> {
        let mut transaction = self.server.begin().await?;
        match transaction.run(statement).await {
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
impl Projection for Neo4jStore {
    fn target(&self) -> Target {
        Target::Neo4j
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.known.forget();
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
        // Each further transaction would wait for the timeout of a server that does not respond.
        let mut failed: Option<Fault> = None;
        for batch in changes.chunks(BATCH) {
            let written = match &failed {
                Some(fault) => Err(fault.clone()),
                None => self.persist(batch).await.map_err(|error| error.of_write(batch.len())),
            };
            let applied = written.unwrap_or_else(|fault| {
                failed = Some(fault.clone()).filter(Fault::is_of_server);
                vec![Applied::Failed(fault); batch.len()]
            });
            answers.extend(batch.iter().map(|change| change.index).zip(applied));
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

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let nodes = self.documents(Which::Above(after, limit)).await.map_err(|error| error.into_fault(READ))?;
        let is_last = nodes.len() < limit;
        Ok(DocumentPage { documents: nodes.into_iter().filter_map(StoredNode::into_document).collect(), is_last })
    }

    fn expect(&self, state: &State) -> Document {
        Document::Graph(GraphDocument::of(state))
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let rows = self.rows(&Statement::new(cypher::COUNTS)).await.map_err(|error| error.into_fault(READ))?;
        let mut counts = Counts { chunks: 0, others: OTHERS.into_iter().map(|name| (name, 0)).collect() };
        for row in rows {
            let undecodable = |column| Error::Answer(column).into_fault(READ);
            let name = row.text("name").ok_or_else(|| undecodable("name"))?;
            let count = row.integer("count").and_then(|n| u64::try_from(n).ok()).ok_or_else(|| undecodable("count"))?;
            match counts.others.get_mut(name) {
                Some(other) => *other = count,
                None => counts.chunks = count,
            }
        }
        Ok(counts)
    }

    async fn check(&self) -> Result<(), Fault> {
        self.rows(&Statement::new(cypher::CHECK)).await.map(drop).map_err(|error| error.into_fault("neo4j: check"))
    }
}

/// Writes a batch in an open transaction, in two flights: the first locks the chunks and reads them, the second runs the
/// statements for the difference. A third one commits.
///
/// # Errors
/// [`Error::Vanished`] if another client deletes a chunk or entity before it is locked; else the error of a statement.
async fn write(
    transaction: &mut Transaction<'_>,
    batch: &[IndexedChange],
    known: &Known,
) -> Result<(Vec<Applied>, Groups), Error> {
    let ids: Vec<Value> = batch.iter().map(|IndexedChange { change, .. }| change.id.as_str().into()).collect();
    transaction.add(&Statement::new(cypher::LOCK_CHUNKS).with("ids", ids.clone()));
    transaction.query(&Statement::new(cypher::READ).with("ids", ids));
    let examined = examined(batch);
    if !examined.is_empty() {
        transaction.query(&Statement::new(cypher::EVIDENCE).with("ids", examined));
    }
    let mut results = transaction.results().await?.into_iter().skip(1);
    let documents = results.next().ok_or(Error::Answer("results"))?;
    let relations = results.next().unwrap_or_default();
    let light: HashSet<&str> = batch.iter().filter(|b| !b.change.thorough).map(|b| b.change.id.as_str()).collect();
    let held = held(&documents, &relations, |id| light.contains(id))?;
    let held: HashMap<&str, &StoredNode> = held.iter().map(|held| (held.id.as_str(), held)).collect();
    let mut steps = Vec::with_capacity(batch.len());
    let mut applied = Vec::with_capacity(batch.len());
    for IndexedChange { change, .. } in batch {
        let held = *held.get(change.id.as_str()).ok_or(Error::Vanished)?;
        if held.version.is_some_and(|held| held.keeps_out(change.version)) {
            applied.push(Applied::Skipped);
        } else {
            applied.push(Applied::Written);
            steps.push(Step::new(change, held));
        }
    }
    let groups = plan::groups(&steps, known);
    if !steps.is_empty() {
        send(transaction, &steps, &groups).await?;
    }
    Ok((applied, groups))
}

/// Locks the entities and runs the statements.
async fn send(transaction: &mut Transaction<'_>, steps: &[Step<'_>], groups: &Groups) -> Result<(), Error> {
    let entities = plan::entities(steps);
    let locked = i64::try_from(entities.len()).unwrap_or(i64::MAX);
    if locked > 0 {
        transaction.add(&Statement::new(cypher::LOCK_ENTITIES).with("ids", entities));
    }
    plan::statements(steps, groups).iter().for_each(|statement| transaction.query(statement));
    // Counted under the locks; everything is rolled back if it shows that an entity is gone.
    let results = transaction.results().await?;
    let found: i64 = results.iter().flatten().filter_map(|row| row.integer("count")).sum();
    if found == locked { Ok(()) } else { Err(Error::Vanished) }
}

/// The chunks of a batch whose evidence is read.
fn examined(batch: &[IndexedChange]) -> Vec<Value> {
    let thorough = batch.iter().map(|IndexedChange { change, .. }| change).filter(|change| change.thorough);
    thorough.map(|change| change.id.as_str().into()).collect()
}

/// The results of a flight of so many statements.
async fn results<const N: usize>(transaction: &mut Transaction<'_>) -> Result<[Vec<Row>; N], Error> {
    transaction.results().await?.try_into().map_err(|_| Error::Answer("results"))
}

/// Reads the stored documents of chunks with their relations.
async fn documents(transaction: &mut Transaction<'_>, which: Which<'_>) -> Result<Vec<StoredNode>, Error> {
    let (documents, relations) = match which {
        Which::These(ids) => {
            let ids: Value = ids.iter().map(String::as_str).collect();
            transaction.query(&Statement::new(cypher::READ).with("ids", ids.clone()));
            transaction.query(&Statement::new(cypher::EVIDENCE).with("ids", ids));
            results(transaction).await.map(|[documents, relations]| (documents, relations))?
        }
        Which::Above(after, limit) => {
            let scan = Statement::new(cypher::SCAN)
                .with("after", after.map_or_else(String::new, text))
                .with("limit", i64::try_from(limit).unwrap_or(i64::MAX));
            let documents = transaction.rows(&scan).await?;
            let ids: Value = documents.iter().filter_map(|row| row.text("id")).collect();
            let relations = transaction.rows(&Statement::new(cypher::EVIDENCE).with("ids", ids)).await?;
            (documents, relations)
        }
    };
    held(&documents, &relations, |_| false)
}
