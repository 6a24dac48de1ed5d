//! Rows, records, vectors, graph and bus in one SQLite file: every role in process, without a server.
//!
//! One process at a time works the directory: it reads the entries of the bus. Other processes open the file beside it,
//! read it, and append to its bus.

mod bus;
mod conflicts;
mod database;
mod examine;
mod fault;
mod fence;
mod graph;
mod installation;
mod lease;
mod lock;
mod rows;
mod schema;
mod strain;
mod vectors;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;

pub use bus::EmbeddedBus;
pub use examine::examine;
pub use graph::Graph;
pub use lease::EmbeddedLease;
pub use rows::Rows;
pub use strain::Strain;
pub use vectors::Vectors;

use database::Database;
use lock::Lock;

/// The name of the file in the directory.
pub const FILE: &str = "chunk-sync.db";

/// How many entries the bus holds before publishers have to wait.
pub const MAX_BACKLOG: u64 = 100_000;

const CONTEXT: &str = "embedded stores";

/// The embedded stores of one directory.
pub struct Embedded {
    /// The system of record.
    pub rows: Arc<Rows>,
    /// The vectors.
    pub vectors: Arc<Vectors>,
    /// The graph.
    pub graph: Arc<Graph>,
    /// The bus.
    pub bus: Arc<EmbeddedBus>,
    /// Which service of this process works the stream.
    pub lease: Arc<EmbeddedLease>,
    /// The file, for what concerns all of them.
    pub file: EmbeddedFile,
}

/// The file that all embedded stores share.
#[derive(Clone)]
pub struct EmbeddedFile(Arc<Database>);

impl EmbeddedFile {
    /// Makes this process the one that works the directory, for the command of that name, until all parts are dropped.
    /// Blocks.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), naming the process, where another one works it.
    pub fn work(&self, command: &str) -> Result<(), Fault> {
        self.0.work(command)
    }

    /// What other programs do to the file that hinders this one. Blocks for a moment.
    #[must_use]
    pub fn strains(&self) -> Vec<Strain> {
        strain::seen_by(&self.0)
    }
}

impl Embedded {
    /// Opens or creates the stores below `dir` for the process that works the directory, by the command of that name. The
    /// directory is held until all parts are dropped. Blocks.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), naming the holder, where another process works it; else the error of the disk or of SQLite.
    pub fn open(dir: &Path, command: &str, limits: Arc<Limits>, max_backlog: u64) -> Result<Self, Fault> {
        create_dir(dir)?;
        let lock = Lock::take(dir, command)?;
        Ok(Self::of(Database::open(&dir.join(FILE), Some(lock))?, limits, max_backlog))
    }

    /// Opens or creates the stores below `dir` beside the process that works the directory, if any does. Blocks.
    ///
    /// # Errors
    /// The error of the disk or of SQLite.
    pub fn open_beside(dir: &Path, limits: Arc<Limits>, max_backlog: u64) -> Result<Self, Fault> {
        create_dir(dir)?;
        Ok(Self::of(Database::open(&dir.join(FILE), None)?, limits, max_backlog))
    }

    /// The same where the file exists; nothing is created. Blocks.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) where there is no file; else the error of the disk or of SQLite.
    pub fn open_existing(dir: &Path, limits: Arc<Limits>, max_backlog: u64) -> Result<Self, Fault> {
        let file = dir.join(FILE);
        if !file.exists() {
            let message = format!(
                "there is no {}: `chunk-sync run`, `publish` or `init` creates it, or embedded.dir names another \
                 directory",
                file.display()
            );
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        Self::open_beside(dir, limits, max_backlog)
    }

    fn of(database: Database, limits: Arc<Limits>, max_backlog: u64) -> Self {
        let database = Arc::new(database);
        Self {
            rows: Arc::new(Rows::new(Arc::clone(&database))),
            vectors: Arc::new(Vectors::new(Arc::clone(&database), limits)),
            graph: Arc::new(Graph::new(Arc::clone(&database))),
            lease: Arc::new(EmbeddedLease::new(Arc::clone(&database))),
            bus: Arc::new(EmbeddedBus::new(Arc::clone(&database), max_backlog)),
            file: EmbeddedFile(database),
        }
    }
}

/// The chunks' text is for the user of the service alone.
fn create_dir(dir: &Path) -> Result<(), Fault> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Fault::new(FaultClass::Disk, CONTEXT, format!("{} cannot be created: {error}", dir.display())))
}
