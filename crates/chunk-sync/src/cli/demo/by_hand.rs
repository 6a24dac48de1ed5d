//! The first part: two programs write the three stores one after the other, as most programs do. The stores are real
//! embedded ones, in a directory of their own; chunk-sync's service does not run.
//!
//! What goes wrong is what goes wrong on any day, and always the same: the graph does not answer to a few writes, a program
//! is restarted between two stores, and the writes of two programs cross. Each program writes what it should, and gives up a
//! write that fails after it has logged the error.

use std::sync::Arc;

use chunk_sync_engine::ports::Write;
use chunk_sync_engine::verify::{Kind, Options, Report, verify};
use chunk_sync_model::event::Body;
use chunk_sync_model::{State, SyncVersion, Target};
use serde_json::Value;
use uuid::Uuid;

use super::changes::{self, Changes, id_of};
use super::outage::{Switch, Switched};
use super::{Demo, Directory, Failure, row};
use crate::cli::output;
use crate::wiring::{self, Purpose, Wired};

/// Every so many edited chunks, both programs edit one at the same time.
const CROSSING: usize = 8;

/// The edits during which the graph is down.
const OUTAGE: std::ops::Range<usize> = 17..21;

/// The deletions between whose stores the program is restarted.
const RESTARTED: usize = 2;

/// What the programs left behind.
pub(super) struct Left {
    /// Chunks that differ between the stores.
    pub(super) differing: u64,
    /// Chunks that lack an edit in every store.
    pub(super) lost: u64,
}

/// The stores, as their clients.
struct Stores {
    wired: Wired,
    graph: Arc<Switch>,
    /// Counts the writes: a store shows the one that arrived last.
    arrived: u64,
}

/// One write to all stores. `None` deletes.
type Change = (Uuid, Option<Arc<State>>);

impl Demo {
    pub(super) async fn by_hand(&mut self, samples: &[Value]) -> Result<Left, Failure> {
        let changes = Changes::of(samples);
        self.screen.heading(1, "By hand: each program writes the three stores, one after the other.")?;
        let directory = Directory::new(&self.directory.dir.join("by-hand"))?;
        let mut wired = wiring::open(&directory.load()?, Purpose::Run, "demo").await?;
        let graph = Arc::new(Switch::default());
        Switched::graph(&mut wired.ports.stores, &graph);
        let mut stores = Stores { wired, graph, arrived: 0 };
        let first: Vec<Change> = samples.iter().map(|chunk| stores.state(chunk)).collect::<Result<_, _>>()?;
        stores.everywhere(&first).await?;
        stores.edit(&changes).await?;
        stores.delete(&changes).await?;
        let report = verify(&stores.wired.ports, &Options::default(), &|_| {}).await?;
        let mut now = Vec::new();
        for chunk in &changes.edited {
            now.push(row(&stores.wired, id_of(chunk)?).await?);
        }
        let left = Left { differing: report.differing, lost: changes.lost(&now) };
        self.show(&changes, &report, &left)?;
        Ok(left)
    }

    fn show(&self, changes: &Changes, report: &Report, left: &Left) -> Result<(), Failure> {
        let screen = self.screen;
        screen.line(&format!(
            "An ordinary day: {} changes. The graph is down for a moment, a program",
            changes.count()
        ))?;
        screen.line("restarts between two stores, some writes of the two programs cross.")?;
        screen.stores(report)?;
        let (differing, chunks) = (output::number(left.differing), output::number(report.chunks));
        screen.bad(&format!("{differing} of {chunks} chunks differ. No program has reported it."))?;
        let orphan =
            report.differences.iter().find(|found| found.store == Target::Qdrant && found.kind == Kind::Orphaned);
        let deleted =
            changes.deleted.iter().find(|chunk| orphan.is_some_and(|orphan| id_of(chunk).ok() == Some(orphan.id)));
        if let Some(path) = deleted.and_then(|chunk| chunk["source"]["path"].as_str()) {
            screen.bad(&format!("{path} was deleted, and a search in Qdrant still finds it."))?;
        }
        screen.bad(&format!("{} have lost the edit of one program for good.", output::count(left.lost, "row")))
    }
}

impl Stores {
    /// Both programs edit each chunk: they read the row, change it, and write the stores.
    async fn edit(&mut self, changes: &Changes) -> Result<(), Failure> {
        for (number, chunk) in changes.edited.iter().enumerate() {
            if OUTAGE.contains(&number) {
                self.graph.off();
            } else {
                self.graph.on();
            }
            if number % CROSSING == CROSSING - 1 {
                self.cross(chunk).await?;
                continue;
            }
            for edit in [changes::rewritten, changes::summarised] {
                let before = row(&self.wired, id_of(chunk)?).await?;
                let before = serde_json::to_value(before).map_err(anyhow::Error::from)?;
                let change = self.state(&edit(&before))?;
                self.everywhere(&[change]).await?;
            }
        }
        Ok(())
    }

    /// Both programs have read the chunk. claude is first at the table, cognee is first at the other stores.
    async fn cross(&mut self, chunk: &Value) -> Result<(), Failure> {
        let (claude, cognee) = (self.state(&changes::rewritten(chunk))?, self.state(&changes::summarised(chunk))?);
        self.rows(std::slice::from_ref(&claude)).await?;
        self.rows(std::slice::from_ref(&cognee)).await?;
        self.others(&[cognee]).await;
        self.others(&[claude]).await;
        Ok(())
    }

    async fn delete(&mut self, changes: &Changes) -> Result<(), Failure> {
        for (number, chunk) in changes.deleted.iter().enumerate() {
            let change = [(id_of(chunk)?, None)];
            self.rows(&change).await?;
            if number >= RESTARTED {
                self.others(&change).await;
            }
        }
        Ok(())
    }

    async fn everywhere(&mut self, changes: &[Change]) -> Result<(), Failure> {
        self.rows(changes).await?;
        self.others(changes).await;
        Ok(())
    }

    async fn rows(&self, changes: &[Change]) -> Result<(), Failure> {
        if let Some(file) = &self.wired.file {
            file.write_rows_directly(changes.to_vec()).await?;
        }
        Ok(())
    }

    /// Writes the other stores. A write that fails is not repeated: the program logs the error and continues.
    async fn others(&mut self, changes: &[Change]) {
        self.arrived += 1;
        let version = SyncVersion::new(self.arrived);
        let write = |(id, state): &Change| Write { id: *id, version, state: state.clone(), vectors_since: version };
        let writes: Vec<Write> = changes.iter().map(write).collect();
        for store in &self.wired.ports.stores {
            store.apply(&writes).await;
        }
    }

    /// The chunk as the stores take it.
    fn state(&self, chunk: &Value) -> Result<Change, Failure> {
        let event = self.wired.publisher.parse(&chunk.to_string(), jiff::Timestamp::now().into());
        let Body::Chunk(chunk) = event.map_err(anyhow::Error::from)?.body else {
            return Err(Failure::Unable(anyhow::anyhow!("a sample chunk is no chunk")));
        };
        Ok((chunk.id, Some(Arc::new(State { chunk: *chunk, embedding_stale: false }))))
    }
}
