//! Erases what is still held of the text of a deleted chunk, beside the stores: its record, its conflicts, its dead
//! letters, its entries on the bus and its operations in the log. The id, the version and the writers that knew the chunk
//! stay, so that nothing brings it back.
//!
//! # What a crash does
//! Each place is erased on its own, and an erased place is found empty the next time: the command is repeated. Nothing is
//! erased of a chunk that lives, that a store still holds, or that has unfinished entries: their events would be lost.

use chunk_sync_model::merge::tombstone;
use chunk_sync_model::{Record, Target};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::ports::{
    Commit, Committed, ConflictFilter, Erasing, Fault, FaultClass, Letter, MergeScope, NoteChange, Ports,
};

/// Dead letters, and conflicts, read at once.
const PAGE: usize = 100;

/// Waiting events that are read: one is enough to refuse.
const SOME: usize = 100;

/// How often a record that another program overtakes is begun again.
const ATTEMPTS: u32 = 5;

/// What was removed of a chunk from one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The place.
    pub place: &'static str,
    /// The number of objects that were removed, or would be.
    pub removed: u64,
}

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum Unerasable {
    /// No record has the chunk.
    #[error("chunk {0} is not on record; check the id")]
    Unknown(Uuid),
    /// The chunk was not deleted.
    #[error("chunk {0} lives; publish its delete first")]
    Lives(Uuid),
    /// A store has not received the delete yet.
    #[error(
        "{1} still holds chunk {0}; wait until the service has deleted it there, or run `chunk-sync verify --repair`"
    )]
    InStore(Uuid, Target),
    /// Entries of the chunk are not finished.
    #[error("{1} entries of chunk {0} are unfinished; wait until the service has carried them")]
    Unfinished(Uuid, u64),
    /// A port failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Erases the chunk from the records, the conflicts, the dead letters and the bus; returns what was removed from each. With
/// [`Erasing::Count`] nothing is removed. The log is left to the process that has its directory.
///
/// # Errors
/// Why the chunk cannot be erased: nothing was removed. After a fault of a port a part may have been removed.
pub async fn erase(ports: &Ports, id: Uuid, mode: Erasing) -> Result<Vec<Erased>, Unerasable> {
    check(ports, id).await?;
    let bus = ports.bus.erase(id, mode).await?;
    // Then those that wait: an entry of the bus is moved there before it is finished.
    let waiting = ports.waiting.waiting_of(&[id], SOME).await?.len() as u64;
    if bus.unfinished + waiting > 0 {
        return Err(Unerasable::Unfinished(id, bus.unfinished + waiting));
    }
    let records = u64::from(erase_record(ports, id, mode).await?);
    let conflicts = match mode {
        Erasing::Remove => ports.records.erase_conflicts(id).await?,
        Erasing::Count => count_conflicts(ports, id).await?,
    };
    let dead_letters = erase_letters(ports, id, mode).await?;
    let erased = |(place, removed)| Erased { place, removed };
    Ok([("bus", bus.removed), ("records", records), ("conflicts", conflicts), ("dead letters", dead_letters)]
        .map(erased)
        .into())
}

/// Whether the operation of a log line is an event of one of these chunks.
#[must_use]
pub fn is_of(operation: &str, ids: &[Uuid]) -> bool {
    // The text is compared first, because most operations are of other chunks.
    let named = ids.iter().any(|id| operation.contains(&id.to_string()));
    named
        && serde_json::from_str::<Value>(operation)
            .is_ok_and(|event| chunk_id(&event["chunk"]).is_some_and(|id| ids.contains(&id)))
}

fn chunk_id(chunk: &Value) -> Option<Uuid> {
    chunk.get("id")?.as_str()?.parse().ok()
}

async fn check(ports: &Ports, id: Uuid) -> Result<(), Unerasable> {
    let current = ports.records.current(&[id]).await?.pop().unwrap_or_default();
    let record = current.record.ok_or(Unerasable::Unknown(id))?;
    if record.lives() || current.state.is_some() {
        return Err(Unerasable::Lives(id));
    }
    for store in &ports.stores {
        if store.fetch_documents(&[id]).await?.iter().any(Option::is_some) {
            return Err(Unerasable::InStore(id, store.target()));
        }
    }
    Ok(())
}

/// Leaves the tombstone of the record; returns whether there was more.
async fn erase_record(ports: &Ports, id: Uuid, mode: Erasing) -> Result<bool, Unerasable> {
    let fence = ports.fence();
    for _ in 0..ATTEMPTS {
        let mut transaction = ports.records.begin(MergeScope { ids: &[id], fence: &fence, finished: &[] }).await?;
        let current = transaction.current().pop().unwrap_or_default();
        let record: Record = current.record.ok_or(Unerasable::Unknown(id))?;
        if record.lives() || current.state.is_some() {
            return Err(Unerasable::Lives(id));
        }
        let erased = tombstone(&record);
        if erased == record || mode == Erasing::Count {
            return Ok(erased != record);
        }
        let (state, row, row_changed) = (None, current.row, false);
        let (outbox, decided, conflicts) = (Vec::new(), Vec::new(), Vec::new());
        let commit = Commit {
            id,
            record: erased,
            state,
            row_changed,
            row,
            outbox,
            decided,
            conflicts,
            absence: NoteChange::default(),
        };
        if transaction.commit(vec![commit]).await? == Committed::Durable {
            return Ok(true);
        }
    }
    Err(Fault::new(FaultClass::Busy, "erase", "another program keeps changing the row; repeat the command").into())
}

async fn count_conflicts(ports: &Ports, id: Uuid) -> Result<u64, Fault> {
    let (mut filter, mut count) = (ConflictFilter { chunk: Some(id), ..ConflictFilter::default() }, 0);
    loop {
        let page = ports.records.conflicts(&filter, PAGE).await?;
        count += page.entries.len() as u64;
        filter.below = page.next();
        if filter.below.is_none() {
            return Ok(count);
        }
    }
}

async fn erase_letters(ports: &Ports, id: Uuid, mode: Erasing) -> Result<u64, Fault> {
    let (mut after, mut removed) = (None, 0);
    loop {
        let letters = ports.bus.dead(after, PAGE).await?;
        for letter in letters.iter().filter(|letter| Letter::chunk(letter) == Some(id)) {
            removed += match mode {
                Erasing::Remove => u64::from(ports.bus.drop_dead(letter.id).await?),
                Erasing::Count => 1,
            };
        }
        // A page is bounded by bytes too: only an empty one is the end.
        match letters.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(removed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_of_the_chunk_that_it_carries_and_not_of_one_that_it_mentions() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let event = format!(r#"{{"type":"update","chunk":{{"id":"{one}","content":"see {other}"}}}}"#);
        assert!(is_of(&event, &[one]) && is_of(&event, &[other, one]));
        assert!(!is_of(&event, &[other]));
        assert!(!is_of("{}", &[one]));
    }
}
