//! Checks that deleted chunks are gone from every store.

use std::collections::BTreeSet;

use chunk_sync_model::{Target, Time};
use serde::Serialize;
use uuid::Uuid;

use crate::ports::{Fault, Ports, each_row};

/// What is left of a chunk that should be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absence {
    /// The chunk.
    pub id: Uuid,
    /// Whether no store holds the chunk.
    pub absent: bool,
    /// The stores that still hold it.
    pub present: BTreeSet<Target>,
    /// Whether the record states that the chunk exists; it may have no row.
    pub alive: bool,
    /// The time of its tombstone: when it was deleted, or when its deletion was last written to the stores.
    pub tombstone: Option<Time>,
}

/// Reads the chunks from every store.
///
/// # Errors
/// A store cannot be read; nothing is known about the chunks then.
pub async fn absence(ports: &Ports, ids: &[Uuid]) -> Result<Vec<Absence>, Fault> {
    let left = each_row(&*ports.records, ids, |i, row| {
        let lives = row.as_ref().and_then(|row| row.lives);
        let version = row.as_ref().map(|row| row.version).unwrap_or_default();
        let has_row = row.is_some_and(|row| row.state.is_some() || row.oversize);
        Absence {
            id: ids[i],
            absent: false,
            present: has_row.then_some(Target::Postgres).into_iter().collect(),
            alive: lives == Some(true),
            tombstone: (lives == Some(false)).then(|| Time::from_micros(version.signed())),
        }
    });
    let mut left = left.await?;
    for store in &ports.stores {
        for (left, seen) in left.iter_mut().zip(store.fetch_documents(ids).await?) {
            left.present.extend(seen.map(|_| store.target()));
        }
    }
    for left in &mut left {
        left.absent = left.present.is_empty() && !left.alive;
    }
    Ok(left)
}
