//! The mark of the installation: a node of its own label.

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Marked};
use uuid::Uuid;

use super::bolt::{Row, Statement};
use super::schema::{self, MARK};
use super::store::Neo4jStore;

const CONTEXT: &str = "neo4j: installation";

const GET: &str = "MATCH (n:ChunkSyncInstallation) RETURN DISTINCT n.id AS id";

impl Neo4jStore {
    /// The statements that `init` would run now, for printing: the constraints that the database lacks, and the mark, in which
    /// `$id` stands for the id of the installation. Creates nothing.
    ///
    /// # Errors
    /// As [`prepare`](chunk_sync_engine::ports::Projection::prepare).
    pub async fn statements(&self) -> Result<Vec<&'static str>, Fault> {
        let mut statements = schema::statements(&self.server).await.map_err(|error| error.into_fault(CONTEXT))?;
        if self.marks().await?.is_some_and(|marks| marks.is_empty()) {
            statements.push(MARK);
        }
        Ok(statements)
    }
}

#[async_trait]
impl Marked for Neo4jStore {
    fn place(&self) -> String {
        "the database in Neo4j".to_owned()
    }

    fn remedy(&self, found: Uuid) -> String {
        format!("run `MATCH (n:ChunkSyncInstallation {{id: '{found}'}}) DELETE n` in Neo4j")
    }

    async fn marks(&self) -> Result<Option<Vec<Uuid>>, Fault> {
        let rows = self.rows(&Statement::new(GET)).await.map_err(|error| error.into_fault(CONTEXT))?;
        let read = |row: &Row| {
            row.text("id").and_then(|found| found.parse().ok()).ok_or_else(|| {
                let message = "a node ChunkSyncInstallation has no installation's id: delete that node";
                Fault::new(FaultClass::Misconfigured, CONTEXT, message)
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    async fn set_mark(&self, id: Uuid) -> Result<(), Fault> {
        self.run(&Statement::new(MARK).with("id", id.to_string())).await.map_err(|error| error.into_fault(CONTEXT))
    }
}
