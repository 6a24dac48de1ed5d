//! The collections: one engine per directory, called by one thread at a time. Every function here blocks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use qdrant_edge::{EdgeConfig, EdgeShard, OperationError};
use tonic::Status;

/// One collection; `None` once it is closed.
pub(crate) type Engine = Arc<Mutex<Option<EdgeShard>>>;

fn engine(shard: EdgeShard) -> Engine {
    Arc::new(Mutex::new(Some(shard)))
}

/// Closes the engine, which flushes its files. Waits for the call that uses it.
fn close(engine: &Engine) {
    drop(engine.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// All collections below a directory.
pub(crate) struct Engines {
    dir: PathBuf,
    open: Mutex<BTreeMap<String, Engine>>,
}

impl Engines {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut open = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let shard = EdgeShard::load(&entry.path(), None).map_err(io::Error::other)?;
            open.insert(name, engine(shard));
        }
        Ok(Self { dir: dir.to_owned(), open: Mutex::new(open) })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Result<Engine, Status> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }

    pub(crate) fn create(&self, name: &str, config: EdgeConfig) -> Result<(), Status> {
        let mut open = self.lock();
        if open.contains_key(name) {
            return Err(Status::invalid_argument(format!("Wrong input: Collection `{name}` already exists!")));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) || name.is_empty() {
            return Err(Status::invalid_argument(format!(
                "Validation error: invalid collection name `{name}`; use letters, digits, `-` and `_`"
            )));
        }
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).map_err(|error| Status::internal(error.to_string()))?;
        let shard = EdgeShard::new(&dir, config).map_err(|error| refusal(&error))?;
        shard.flush();
        open.insert(name.to_owned(), engine(shard));
        Ok(())
    }

    /// Deletes a collection with its files; false when it did not exist.
    pub(crate) fn delete(&self, name: &str) -> Result<bool, Status> {
        let mut open = self.lock();
        let Some(engine) = open.remove(name) else { return Ok(false) };
        close(&engine);
        std::fs::remove_dir_all(self.dir.join(name)).map_err(|error| Status::internal(error.to_string()))?;
        Ok(true)
    }

    /// Closes all collections.
    pub(crate) fn close(&self) {
        std::mem::take(&mut *self.lock()).values().for_each(close);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Engine>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gRPC status that a real server returns for an error of the engine.
pub(crate) fn refusal(error: &OperationError) -> Status {
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti => Status::invalid_argument(format!("Wrong input: {error}")),
        OperationError::PointIdError { .. } => Status::not_found(format!("Not found: {error}")),
        OperationError::Timeout { .. } => Status::deadline_exceeded(error.to_string()),
        _ => Status::internal(format!("Service internal error: {error}")),
    }
}
