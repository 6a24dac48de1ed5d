//! Deleted chunks: whether they are gone from everywhere.

use std::collections::BTreeSet;

use chunk_sync_model::{Target, Time};
use serde::Serialize;
use uuid::Uuid;

use crate::ports::Fault;
use crate::ports::Ports;

/// What is left of a chunk that should be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absence {
    /// Which chunk.
    pub id: Uuid,
    /// No store has it.
    pub absent: bool,
    /// The stores that still have it.
    pub present: BTreeSet<Target>,
    /// The record says that it is there, though it may have no row.
    pub alive: bool,
    /// The time of its tombstone: when it was deleted, or last told to the stores as deleted.
    pub tombstone: Option<Time>,
}

/// Looks for the chunks in every store.
///
/// # Errors
/// Where a store cannot be read: nothing is known then.
pub async fn absence(ports: &Ports, ids: &[Uuid]) -> Result<Vec<Absence>, Fault> {
    let mut left = Vec::with_capacity(ids.len());
    for (id, row) in ids.iter().zip(ports.records.rows_of(ids).await?) {
        let lives = row.as_ref().and_then(|row| row.lives);
        let version = row.as_ref().map(|row| row.version).unwrap_or_default();
        let has_row = row.is_some_and(|row| row.state.is_some());
        left.push(Absence {
            id: *id,
            absent: false,
            present: has_row.then_some(Target::Postgres).into_iter().collect(),
            alive: lives == Some(true),
            tombstone: (lives == Some(false)).then(|| Time::from_micros(version.signed())),
        });
    }
    for store in &ports.stores {
        for (left, seen) in left.iter_mut().zip(store.read(ids).await?) {
            left.present.extend(seen.map(|_| store.target()));
        }
    }
    for left in &mut left {
        left.absent = left.present.is_empty() && !left.alive;
    }
    Ok(left)
}
