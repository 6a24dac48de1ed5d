//! The engine: opened, and called by one thread at a time. Everything here blocks.
//!
//! After a crash the engine has just what was flushed, so nothing is answered before `flush` has returned. It keeps a log
//! of its own, which it neither replays nor shortens: what is closed of it is removed when the directory is opened.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;
use qdrant_edge::{
    CreateIndex, EdgeConfig, EdgeShard, FieldIndexOperations, OperationError, UpdateOperation, VectorNameOperations,
};

use crate::layout;

pub(crate) const CONTEXT: &str = "embedded vectors";

/// The engine on one directory.
pub(crate) struct Shard {
    engine: Mutex<EdgeShard>,
}

impl Shard {
    pub(crate) fn open(dir: &Path, limits: &Limits) -> Result<Self, Fault> {
        let disk = |error: std::io::Error| Fault::new(FaultClass::Disk, CONTEXT, format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(disk)?;
        let engine = match EdgeConfig::load(dir) {
            Some(held) => {
                let held = held.map_err(|error| fault(&error))?;
                if let Some(difference) = layout::differs(&held, limits) {
                    return Err(other_layout(dir, &difference));
                }
                shorten_log(&dir.join("wal")).map_err(disk)?;
                load(dir, layout::additions(&held, limits), limits)
            }
            None => EdgeShard::new(dir, layout::config(limits)),
        };
        let engine = engine.map_err(|error| fault(&error))?;
        create_indexes(&engine).map_err(|error| fault(&error))?;
        Ok(Self { engine: Mutex::new(engine) })
    }

    /// The engine, for one caller. Where it panicked under an earlier one nobody knows what it holds in memory: what is on
    /// disk is sound, and a restart goes on from there.
    pub(crate) fn engine(&self) -> Result<MutexGuard<'_, EdgeShard>, Fault> {
        self.engine.lock().map_err(|_| {
            Fault::new(FaultClass::Unavailable, CONTEXT, "the engine failed earlier in this process: restart it")
        })
    }
}

/// Loads what is there, as it was configured where something is to be added first.
fn load(dir: &Path, additions: Vec<VectorNameOperations>, limits: &Limits) -> Result<EdgeShard, OperationError> {
    if additions.is_empty() {
        return EdgeShard::load(dir, Some(layout::config(limits)));
    }
    let engine = EdgeShard::load(dir, None)?;
    additions.into_iter().try_for_each(|add| engine.update(UpdateOperation::VectorNameOperation(add)))?;
    engine.flush();
    Ok(engine)
}

fn create_indexes(engine: &EdgeShard) -> Result<(), OperationError> {
    let there = engine.info().payload_schema;
    for (name, kind) in layout::INDEXES {
        let field_name = name.parse().map_err(|()| OperationError::service_error(format!("`{name}` is no path")))?;
        if !there.contains_key(&field_name) {
            let index = CreateIndex { field_name, field_schema: Some(layout::schema(kind)) };
            engine.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))?;
        }
    }
    engine.flush();
    Ok(())
}

/// Removes all closed segments of the engine's log but the last, by whose end the engine numbers what comes next.
fn shorten_log(wal: &Path) -> std::io::Result<()> {
    let mut closed = Vec::new();
    for entry in std::fs::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.strip_prefix("closed-")?.parse::<u64>().ok());
        closed.extend(start.map(|start| (start, entry.path())));
    }
    closed.sort_unstable();
    closed.pop();
    // From the oldest on: wherever this is cut short, what is left has no gap.
    closed.into_iter().try_for_each(|(_, path)| std::fs::remove_file(path))
}

fn other_layout(dir: &Path, difference: &str) -> Fault {
    let message = format!(
        "{} was made for other embedding models: {difference}. Configure [[embedding]] as it was, or remove the directory \
         of the embedded stores and publish again",
        dir.display()
    );
    Fault::new(FaultClass::Misconfigured, CONTEXT, message)
}

/// What the engine says, as the service understands it.
pub(crate) fn fault(error: &OperationError) -> Fault {
    let class = match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti => FaultClass::Rejected,
        OperationError::Timeout { .. } => FaultClass::Timeout,
        OperationError::InconsistentStorage { .. } => FaultClass::Corrupt,
        _ => FaultClass::Unavailable,
    };
    Fault::new(class, CONTEXT, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_keeps_its_last_closed_segment_and_whatever_is_open() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["closed-0", "closed-70", "closed-8", "open-4", "first-index"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        shorten_log(dir.path()).unwrap();
        let left =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(
            left.collect::<std::collections::BTreeSet<_>>(),
            ["closed-70", "first-index", "open-4"].map(String::from).into()
        );
    }
}
