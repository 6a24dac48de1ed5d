//! Rows, records, vectors, graph and bus in one SQLite file: every role in process, without a server.
//!
//! One process at a time holds the lock of the directory and reads the entries of the bus. Other processes may open the
//! file at the same time, read it, and append to the bus.

mod absence;
mod bus;
mod conflicts;
mod database;
mod erasures;
mod examine;
mod fault;
mod fence;
mod graph;
mod idle_records;
mod installation;
mod lease;
mod lease_state;
mod lock;
mod merge;
mod notes;
mod rows;
mod schema;
mod strain;
mod tables;
mod values;
mod vectors;
mod waiting;
mod watch_list;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::{Limits, State};
use rusqlite::Transaction;
use uuid::Uuid;

use crate::backlog::MaxBacklog;

pub use bus::EmbeddedBus;
pub use examine::examine;
pub use graph::Graph;
pub use lease::EmbeddedLease;
pub use rows::Rows;
pub use strain::Strain;
pub use vectors::Vectors;

use database::{Database, Durability};
use lock::Lock;

/// File name of the database in the directory.
pub const FILE: &str = "chunk-sync.db";

const CONTEXT: &str = "embedded stores";

/// The embedded stores of one directory, all in one file.
pub struct Embedded {
    /// The system of record.
    pub rows: Arc<Rows>,
    /// The vectors.
    pub vectors: Arc<Vectors>,
    /// The graph.
    pub graph: Arc<Graph>,
    /// The bus.
    pub bus: Arc<EmbeddedBus>,
    /// The lease: which service of this process works the stream.
    pub lease: Arc<EmbeddedLease>,
    /// The file that the stores share: its lock, and the checks of it.
    pub file: EmbeddedFile,
}

/// The file that all embedded stores share.
#[derive(Clone)]
pub struct EmbeddedFile(Arc<Database>);

impl EmbeddedFile {
    /// Takes the lock of the directory for this process and holds it until every handle to the file is dropped.
    /// `command` is written into the lock file, for messages. Does nothing when this process already holds the lock.
    /// Blocks.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), with the process id and command of the holder, when another process holds the lock;
    /// [`Disk`](FaultClass::Disk) when the lock file cannot be opened, read or written.
    pub fn work(&self, command: &str) -> Result<(), Fault> {
        self.0.work(command)
    }

    /// Writes or deletes rows as another program would: without record, version or outbox. For demonstrations and tests of
    /// what verification finds.
    ///
    /// # Errors
    /// The fault of SQLite.
    pub async fn write_rows_directly(&self, rows: Vec<(Uuid, Option<Arc<State>>)>) -> Result<(), Fault> {
        let work = move |transaction: &Transaction<'_>| {
            rows.iter().try_for_each(|(id, state)| tables::set_row(transaction, *id, state.as_deref()))
        };
        self.0.write(CONTEXT, Durability::Synced, work).await
    }

    /// Returns what other programs do to the file that hinders this process. Blocks for a short time.
    #[must_use]
    pub fn strains(&self) -> Vec<Strain> {
        strain::seen_by(&self.0)
    }
}

impl Embedded {
    /// Opens or creates the stores below `dir` and takes the lock of the directory. The lock is held until all stores
    /// are dropped. `command` is written into the lock file, for messages. Blocks.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), with the process id and command of the holder, when another process holds the lock;
    /// [`Disk`](FaultClass::Disk) when the directory, the lock or the file cannot be created; else the fault of SQLite
    /// or of the version of the tables.
    pub fn open(dir: &Path, command: &str, limits: Arc<Limits>, max_backlog: MaxBacklog) -> Result<Self, Fault> {
        create_dir(dir)?;
        let lock = Lock::take(dir, command)?;
        Ok(Self::of(Database::open(&dir.join(FILE), Some(lock))?, limits, max_backlog))
    }

    /// Opens or creates the stores below `dir` without the lock, while another process may hold it. Blocks.
    ///
    /// # Errors
    /// [`Disk`](FaultClass::Disk) when the directory or the file cannot be created;
    /// [`Misconfigured`](FaultClass::Misconfigured) when the tables of the file are of an older version, which only the
    /// holder of the lock migrates; else the fault of SQLite.
    pub fn open_beside(dir: &Path, limits: Arc<Limits>, max_backlog: MaxBacklog) -> Result<Self, Fault> {
        create_dir(dir)?;
        Ok(Self::of(Database::open(&dir.join(FILE), None)?, limits, max_backlog))
    }

    /// Like [`Self::open_beside`], but only when the file exists; creates no file and no directory. Blocks.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) when the file does not exist; else as [`Self::open_beside`].
    pub fn open_existing(dir: &Path, limits: Arc<Limits>, max_backlog: MaxBacklog) -> Result<Self, Fault> {
        let file = dir.join(FILE);
        if !file.exists() {
            let message = format!(
                "{} does not exist; `chunk-sync run`, `publish` or `init` creates it; set embedded.dir if the stores \
                 are in another directory",
                file.display()
            );
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        Self::open_beside(dir, limits, max_backlog)
    }

    fn of(database: Database, limits: Arc<Limits>, max_backlog: MaxBacklog) -> Self {
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

/// Creates the directory, readable by the user of the service only: the stores hold the text of the chunks.
fn create_dir(dir: &Path) -> Result<(), Fault> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Fault::new(
            FaultClass::Disk,
            CONTEXT,
            format!("cannot create the directory {}: {error}; set embedded.dir to another one", dir.display()),
        )
    })
}
