//! The store: batches in one transaction each, retried where others were in the way, halved where one write is to blame.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use chunk_sync_engine::ports::{Applied, Counts, Fault, FaultClass, Looked, Seen, Store, Write};
use chunk_sync_model::document::{Fingerprint, GraphDocument};
use chunk_sync_model::{State, Target};
use neo4rs::{BoltType, Query, Row, query};
use uuid::Uuid;

use super::config::Neo4jConfig;
use super::cypher;
use super::decode::{Held, held};
use super::encode::{Change, change, text};
use super::fault::Error;
use super::plan::{self, Statement, Step};
use super::schema;
use super::server::{Server, Transaction};

pub(super) const WRITE: &str = "neo4j: write";
const READ: &str = "neo4j: read";

/// What is counted beside chunks.
const OTHERS: [&str; 3] = ["entities", "entity_links", "relations"];

/// Chunks in one transaction.
const BATCH: usize = 256;

/// How often a transaction is tried again where others were in the way, and how long is waited the first time and at most.
const RETRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a constraint on a graph that is already large may take to be made.
const BUILDING: Duration = Duration::from_secs(1800);

/// The graph of one database.
pub struct Neo4jStore {
    server: Server,
    /// The same, for what takes long.
    patient: Server,
}

impl Neo4jStore {
    /// A store on the server of `config`. Connects at the first call.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) where the address is none that is spoken.
    pub fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        let patient = Neo4jConfig { timeout: config.timeout.max(BUILDING), ..config.clone() };
        Ok(Self { server: Server::new(config)?, patient: Server::new(&patient)? })
    }

    /// Writes a batch, in ascending order of id, all of it or nothing.
    async fn persist(&self, batch: &[Asked]) -> Result<Vec<Applied>, Error> {
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

    async fn attempt(&self, batch: &[Asked]) -> Result<Vec<Applied>, Error> {
        let mut transaction = self.server.begin().await?;
        match write(&mut transaction, batch).await {
            Ok(applied) => transaction.commit().await.map(|()| applied),
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// The rows of one statement that leaves nothing.
    async fn rows(&self, query: Query) -> Result<Vec<Row>, Error> {
        let mut transaction = self.server.begin().await?;
        let rows = transaction.rows(query).await;
        transaction.rollback().await;
        rows
    }

    async fn documents(&self, which: Which<'_>) -> Result<Vec<Held>, Error> {
        let mut transaction = self.server.begin().await?;
        let held = documents(&mut transaction, which).await;
        transaction.rollback().await;
        held
    }
}

/// Whose documents are read.
enum Which<'a> {
    These(&'a [String]),
    Above(Option<Uuid>, usize),
}

/// A write that was asked for, with its place among the others.
struct Asked {
    place: usize,
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
        let mut asked = Vec::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            match change(write) {
                Ok(change) => asked.push(Asked { place, change }),
                Err(fault) => {
                    answers.insert(place, Applied::Failed(fault));
                }
            }
        }
        asked.sort_unstable_by(|a, b| a.change.id.cmp(&b.change.id));
        let mut batches: Vec<_> = asked.rchunks(BATCH).collect();
        while let Some(batch) = batches.pop() {
            match self.persist(batch).await {
                Ok(applied) => answers.extend(batch.iter().map(|asked| asked.place).zip(applied)),
                Err(error) if error.wants_less() && batch.len() > 1 => {
                    let (front, back) = batch.split_at(batch.len() / 2);
                    batches.extend([back, front]);
                }
                Err(error) => {
                    let fault = error.into_fault(WRITE);
                    // A server that does not answer would let each batch wait in turn.
                    let all = !matches!(fault.class, FaultClass::Busy | FaultClass::Rejected);
                    let others = if all { std::mem::take(&mut batches) } else { Vec::new() };
                    let failed = others.into_iter().flatten().chain(batch);
                    answers.extend(failed.map(|asked| (asked.place, Applied::Failed(fault.clone()))));
                }
            }
        }
        answers.into_values().collect()
    }

    async fn look(&self, ids: &[Uuid]) -> Result<Vec<Option<Looked>>, Fault> {
        let texts: Vec<String> = ids.iter().copied().map(text).collect();
        let documents = self.documents(Which::These(&texts)).await.map_err(|error| error.into_fault(READ))?;
        let looked = documents.into_iter().filter_map(Held::looked);
        let mut looked: HashMap<_, _> = looked.map(|looked| (looked.id, looked)).collect();
        Ok(ids.iter().map(|id| looked.remove(id)).collect())
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Seen>, Fault> {
        let documents = self.documents(Which::Above(after, limit)).await.map_err(|error| error.into_fault(READ))?;
        Ok(documents.iter().filter_map(Held::seen).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        GraphDocument::of(state).fingerprint()
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let rows = self.rows(query(cypher::COUNTS)).await.map_err(|error| error.into_fault(READ))?;
        let mut counts = Counts { chunks: 0, others: OTHERS.into_iter().map(|name| (name, 0)).collect() };
        for row in rows {
            let read = |error| Error::Answer(error).into_fault(READ);
            let name: String = row.get("name").map_err(read)?;
            let count = row.get("count").map_err(read)?;
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

/// Everything about a batch in one transaction: locks, then what is held, then the difference.
async fn write(transaction: &mut Transaction<'_>, batch: &[Asked]) -> Result<Vec<Applied>, Error> {
    let ids: Vec<String> = batch.iter().map(|asked| asked.change.id.clone()).collect();
    transaction.run_on(cypher::LOCK_CHUNKS, "ids", values(&ids)).await?;
    let held = documents(transaction, Which::These(&ids)).await?;
    let held: HashMap<&str, &Held> = held.iter().map(|held| (held.id.as_str(), held)).collect();
    let mut steps = Vec::with_capacity(batch.len());
    let mut applied = Vec::with_capacity(batch.len());
    for Asked { change, .. } in batch {
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
    let mut there = 0;
    for row in transaction.rows_on(cypher::COUNT_ENTITIES, "ids", ids).await? {
        there += row.get::<usize>("count")?;
    }
    if there == wanted { Ok(()) } else { Err(Error::Vanished) }
}

/// What the graph holds of chunks: the documents, and who is evidence for what.
async fn documents(transaction: &mut Transaction<'_>, which: Which<'_>) -> Result<Vec<Held>, Error> {
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
