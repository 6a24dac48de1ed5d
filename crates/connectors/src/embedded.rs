//! Rows, records, vectors, graph and bus in one SQLite file: every role in process, without a server.
//!
//! One process at a time holds the directory.

mod bus;
mod conflicts;
mod database;
mod examine;
mod fault;
mod graph;
mod lease;
mod lock;
mod rows;
mod schema;
mod vectors;

use std::path::Path;
use std::sync::Arc;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;

pub use bus::EmbeddedBus;
pub use examine::examine;
pub use graph::Graph;
pub use lease::EmbeddedLease;
pub use rows::Rows;
pub use vectors::Vectors;

use database::Database;
use lock::Lock;

/// The name of the file in the directory.
pub const FILE: &str = "chunk-sync.db";

/// How many entries the bus holds before publishers have to wait.
pub const MAX_BACKLOG: u64 = 100_000;

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
}

impl Embedded {
    /// Opens or creates the stores below `dir`, for the command of that name. The directory is held until all parts
    /// are dropped. Blocks.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy), naming the holder, where another process has it; else what the disk or the file says.
    pub fn open(dir: &Path, command: &str, limits: Arc<Limits>, max_backlog: u64) -> Result<Self, Fault> {
        std::fs::create_dir_all(dir).map_err(|error| {
            Fault::new(FaultClass::Disk, "embedded stores", format!("{} cannot be created: {error}", dir.display()))
        })?;
        let lock = Lock::take(dir, command)?;
        let database = Arc::new(Database::open(&dir.join(FILE), lock)?);
        Ok(Self {
            rows: Arc::new(Rows::new(Arc::clone(&database))),
            vectors: Arc::new(Vectors::new(Arc::clone(&database), limits)),
            graph: Arc::new(Graph::new(Arc::clone(&database))),
            lease: Arc::new(EmbeddedLease::new(Arc::clone(&database))),
            bus: Arc::new(EmbeddedBus::new(database, max_backlog)),
        })
    }
}
