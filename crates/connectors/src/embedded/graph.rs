//! The graph in SQLite: per chunk, the entities that it mentions and the relations that it states. The entities and
//! relations themselves are the union over all chunks and are never stored: when a chunk is deleted, the entities and
//! relations that only it supported disappear with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, Projection, StoredDocument, Write};
use chunk_sync_model::document::{Document, GraphDocument, Mention, Relation, sort_relations};
use chunk_sync_model::{State, SyncVersion, Target};
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::database::{Database, Durability};
use super::fault::Error;
use super::values::{ids_above, version};

const WRITE: &str = "embedded graph: write";
const READ: &str = "embedded graph: read";

/// The graph.
pub struct Graph {
    database: Arc<Database>,
}

impl Graph {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Projection for Graph {
    fn target(&self) -> Target {
        Target::Neo4j
    }

    async fn prepare(&self) -> Result<(), Fault> {
        // The tables were created when the file was opened.
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        self.database.apply(WRITE, writes, apply).await
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let ids = ids.to_vec();
        self.database.read(READ, move |transaction| ids.iter().map(|id| looked(transaction, *id)).collect()).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let ids = ids_above(transaction, "SELECT id FROM graph_chunks", after, limit)?;
            let is_last = ids.len() < limit;
            let documents = ids.into_iter().filter_map(|id| looked(transaction, id).transpose());
            Ok(DocumentPage { documents: documents.collect::<Result<_, _>>()?, is_last })
        };
        self.database.read(READ, work).await
    }

    fn expect(&self, state: &State) -> Document {
        Document::Graph(GraphDocument::of(state))
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let count =
                |sql| Ok::<_, Error>(transaction.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs());
            let others = BTreeMap::from([
                ("entities", count("SELECT count(DISTINCT entity) FROM graph_mentions")?),
                ("entity_links", count("SELECT count(*) FROM graph_mentions")?),
                (
                    "relations",
                    count("SELECT count(*) FROM (SELECT DISTINCT source, target, type FROM graph_relations)")?,
                ),
            ]);
            Ok(Counts { chunks: count("SELECT count(*) FROM graph_chunks")?, others })
        };
        self.database.read(READ, work).await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.database.write("embedded graph: check", Durability::Lazy, |_| Ok(())).await
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> Result<Applied, Error> {
    let mut statement = transaction.prepare_cached("SELECT version FROM graph_chunks WHERE id = ?1")?;
    let held: Option<SyncVersion> = statement.query_row([write.id], |row| Ok(version(row.get(0)?))).optional()?;
    if held.is_some_and(|held| held.keeps_out(write.version)) {
        return Ok(Applied::Skipped);
    }
    remove(transaction, write.id)?;
    if let Some(state) = &write.state {
        insert(transaction, write.id, write.version, &GraphDocument::of(state))?;
    }
    Ok(Applied::Written)
}

fn remove(transaction: &Transaction<'_>, id: Uuid) -> Result<(), Error> {
    for sql in [
        "DELETE FROM graph_mentions WHERE chunk = ?1",
        "DELETE FROM graph_relations WHERE chunk = ?1",
        "DELETE FROM graph_chunks WHERE id = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    id: Uuid,
    version: SyncVersion,
    document: &GraphDocument,
) -> Result<(), Error> {
    let sql = "INSERT INTO graph_chunks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    transaction.prepare_cached(sql)?.execute(params![
        id,
        version.signed(),
        document.content_hash,
        document.chunk_type,
        document.source_type,
        document.system_origin,
        document.created_at,
        document.updated_at,
        document.dataset
    ])?;
    let mut statement = transaction.prepare_cached("INSERT INTO graph_mentions VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (entity, mention) in &document.entities {
        let positions = serde_json::Value::from(mention.positions.as_slice()).to_string();
        statement.execute(params![id, entity, mention.name, mention.kind, mention.confidence, positions])?;
    }
    let mut statement = transaction.prepare_cached("INSERT INTO graph_relations VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for relation in &document.relations {
        statement.execute(params![id, relation.source, relation.target, relation.kind, relation.confidence])?;
    }
    belong(transaction, document)
}

/// Inserts the data set and the project of a chunk. Both stay when the last chunk of them is deleted.
fn belong(transaction: &Transaction<'_>, document: &GraphDocument) -> Result<(), Error> {
    if let Some(project) = &document.project {
        let sql = "INSERT INTO graph_projects VALUES (?1) ON CONFLICT (id) DO NOTHING";
        transaction.prepare_cached(sql)?.execute([project])?;
    }
    if let Some(dataset) = &document.dataset {
        let sql = "INSERT INTO graph_datasets VALUES (?1, ?2)
            ON CONFLICT (id) DO UPDATE SET project = coalesce(excluded.project, project)";
        transaction.prepare_cached(sql)?.execute(params![dataset, document.project])?;
    }
    Ok(())
}

/// Builds the document of a chunk from the tables; `None` when the chunk is not stored.
fn looked(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<StoredDocument>, Error> {
    let sql = "SELECT version, content_hash, chunk_type, source_type, system_origin, created_at, updated_at, dataset
        FROM graph_chunks WHERE id = ?1";
    let node = transaction.prepare_cached(sql)?.query_row([id], |row| {
        let document = GraphDocument {
            content_hash: row.get(1)?,
            chunk_type: row.get(2)?,
            source_type: row.get(3)?,
            system_origin: row.get(4)?,
            created_at: row.get(5)?,
            updated_at: row.get(6)?,
            dataset: row.get(7)?,
            project: None,
            entities: BTreeMap::new(),
            relations: Vec::new(),
        };
        Ok((version(row.get(0)?), document))
    });
    let Some((version, mut document)) = node.optional()? else {
        return Ok(None);
    };
    document.entities = mentions(transaction, id)?;
    document.relations = relations(transaction, id)?;
    Ok(Some(StoredDocument { id, version, document: Document::Graph(document) }))
}

fn mentions(transaction: &Transaction<'_>, id: Uuid) -> Result<BTreeMap<String, Mention>, Error> {
    let sql = "SELECT entity, name, type, confidence, positions FROM graph_mentions WHERE chunk = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        let mention = Mention { name: row.get(1)?, kind: row.get(2)?, confidence: row.get(3)?, positions: Vec::new() };
        Ok((row.get::<_, String>(0)?, mention, row.get::<_, String>(4)?))
    })?;
    rows.map(|row| {
        let (entity, mut mention, positions) = row?;
        mention.positions = serde_json::from_str(&positions)
            .map_err(|error| Error::Unreadable("the positions of an entity mention", format!("{id}: {error}")))?;
        Ok((entity, mention))
    })
    .collect()
}

fn relations(transaction: &Transaction<'_>, id: Uuid) -> Result<Vec<Relation>, Error> {
    let sql = "SELECT source, target, type, confidence FROM graph_relations WHERE chunk = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        Ok(Relation { source: row.get(0)?, target: row.get(1)?, kind: row.get(2)?, confidence: row.get(3)? })
    })?;
    let mut relations = rows.collect::<Result<Vec<_>, _>>()?;
    sort_relations(&mut relations);
    Ok(relations)
}
