//! The store: batches in one transaction each, retried where others were in the way, halved where one write is to blame.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use chunk_sync_engine::ports::{Applied, Counts, Fault, FaultClass, Seen, Store, Write};
use chunk_sync_model::document::{Fingerprint, GraphDocument};
use chunk_sync_model::{State, Target};
use neo4rs::{Query, query};
use uuid::Uuid;

use super::config::Neo4jConfig;
use super::cypher;
use super::decode::Held;
use super::encode::{Change, change, text};
use super::fault::Error;
use super::plan::{self, Step};
use super::schema;
use super::server::{Server, Transaction};

pub(super) const WRITE: &str = "neo4j: write";
const READ: &str = "neo4j: read";

/// Chunks in one transaction.
const BATCH: usize = 256;

/// How often a transaction is tried again where others were in the way, and how long is waited the first time and at most.
const RETRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The graph of one database.
pub struct Neo4jStore {
    server: Server,
}

impl Neo4jStore {
    /// A store on the server of `config`. Connects at the first call.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) where the address is none that is spoken.
    pub fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        Ok(Self { server: Server::new(config)? })
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

    /// The rows of one statement that only reads.
    async fn documents(&self, query: Query) -> Result<Vec<Held>, Fault> {
        let rows = self.rows(query).await.map_err(|error| error.into_fault(READ))?;
        rows.iter().map(|row| Held::of(row).map_err(|error| error.into_fault(READ))).collect()
    }

    async fn rows(&self, query: Query) -> Result<Vec<neo4rs::Row>, Error> {
        let mut transaction = self.server.begin().await?;
        let rows = transaction.rows(query).await;
        transaction.rollback().await;
        rows
    }
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
        schema::prepare(&self.server).await.map_err(|error| error.into_fault("neo4j: constraints"))
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

    async fn read(&self, ids: &[Uuid]) -> Result<Vec<Option<Seen>>, Fault> {
        let texts: Vec<String> = ids.iter().copied().map(text).collect();
        let documents = self.documents(query(cypher::READ).param("ids", texts)).await?;
        let seen: HashMap<_, _> = documents.iter().filter_map(Held::seen).map(|seen| (seen.id, seen)).collect();
        Ok(ids.iter().map(|id| seen.get(id).cloned()).collect())
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Seen>, Fault> {
        let scan = query(cypher::SCAN)
            .param("after", after.map_or_else(String::new, text))
            .param("limit", i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(self.documents(scan).await?.iter().filter_map(Held::seen).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        GraphDocument::of(state).fingerprint()
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let rows = self.rows(query(cypher::COUNTS)).await.map_err(|error| error.into_fault(READ))?;
        let mut counts = Counts::default();
        for row in rows {
            let read = |error| Error::Answer(error).into_fault(READ);
            let name: String = row.get("name").map_err(read)?;
            let count = row.get::<i64>("count").map_err(read)?.unsigned_abs();
            match ["entities", "entity_links", "relations"].into_iter().find(|known| *known == name) {
                Some(known) => {
                    counts.others.insert(known, count);
                }
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
    let ids: Vec<&str> = batch.iter().map(|asked| asked.change.id.as_str()).collect();
    transaction.run(query(cypher::LOCK_CHUNKS).param("ids", ids.as_slice())).await?;
    let mut held = HashMap::new();
    for row in transaction.rows(query(cypher::READ).param("ids", ids)).await? {
        let document = Held::of(&row)?;
        held.insert(document.id.clone(), document);
    }
    let mut steps = Vec::with_capacity(batch.len());
    let mut applied = Vec::with_capacity(batch.len());
    for Asked { change, .. } in batch {
        let held = held.remove(&change.id).ok_or(Error::Vanished)?;
        if held.version.is_some_and(|held| held >= change.version) {
            applied.push(Applied::Skipped);
        } else {
            applied.push(Applied::Written);
            steps.push(Step { change, held });
        }
    }
    lock_entities(transaction, &steps).await?;
    for statement in plan::statements(&steps) {
        transaction.run(statement).await?;
    }
    Ok(applied)
}

async fn lock_entities(transaction: &mut Transaction<'_>, steps: &[Step<'_>]) -> Result<(), Error> {
    let ids: Vec<String> = plan::entities(steps).into_iter().collect();
    if ids.is_empty() {
        return Ok(());
    }
    transaction.run(query(cypher::LOCK_ENTITIES).param("ids", ids.as_slice())).await?;
    let wanted = ids.len() as i64;
    let rows = transaction.rows(query(cypher::COUNT_ENTITIES).param("ids", ids)).await?;
    match rows.first().map(|row| row.get::<i64>("count")).transpose()? {
        Some(count) if count == wanted => Ok(()),
        _ => Err(Error::Vanished),
    }
}
