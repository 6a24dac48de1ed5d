//! Removes the finished entries of a chunk, which the stream may hold for other groups.

use chunk_sync_engine::ports::{BusErasure, EntryId, Erasing, chunk_of};
use redis::Value;
use uuid::Uuid;

use super::Shared;
use super::answer;
use super::fault::Error;

/// Entries read at once: an entry may have megabytes.
const PAGE: usize = 8;

pub(super) async fn erase(shared: &Shared, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Error> {
    let ids = entries_of(shared, chunk).await?;
    let mut unfinished = 0;
    for id in &ids {
        unfinished += u64::from(is_unfinished(shared, *id).await?);
    }
    if unfinished > 0 || ids.is_empty() {
        return Ok(BusErasure { unfinished, removed: 0 });
    }
    if mode == Erasing::Count {
        return Ok(BusErasure { unfinished, removed: ids.len() as u64 });
    }
    let mut command = redis::cmd("XDEL");
    command.arg(&shared.keys.stream);
    for id in &ids {
        command.arg(id.to_string());
    }
    let removed = shared.connection.query(&command).await?;
    Ok(BusErasure { unfinished, removed })
}

async fn entries_of(shared: &Shared, chunk: Uuid) -> Result<Vec<EntryId>, Error> {
    let (mut ids, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let mut command = redis::cmd("XRANGE");
        command.arg(&shared.keys.stream).arg(&from).arg("+").arg("COUNT").arg(PAGE);
        let page = answer::entries(shared.connection.query::<Value>(&command).await?)?;
        let Some(last) = page.last() else { return Ok(ids) };
        from = format!("({}", last.id);
        ids.extend(page.iter().filter(|entry| chunk_of(&entry.fields) == Some(chunk)).map(|entry| entry.id));
    }
}

/// Whether the group has not read the entry, or has not acknowledged it.
async fn is_unfinished(shared: &Shared, id: EntryId) -> Result<bool, Error> {
    let Some(group) = shared.group().await? else { return Ok(true) };
    if id > group.last_delivered {
        return Ok(true);
    }
    let (one, mut command) = (id.to_string(), redis::cmd("XPENDING"));
    command.arg(&shared.keys.stream).arg(&shared.keys.group).arg(&one).arg(&one).arg(1);
    Ok(!answer::list(shared.connection.query::<Value>(&command).await?)?.is_empty())
}
