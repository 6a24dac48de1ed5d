//! How much waits, and forgetting what every group has finished.

use chunk_sync_engine::ports::{Depth, EntryId};
use redis::{Cmd, Value};

use super::Shared;
use super::answer::{self, Group};
use super::fault::Error;
use super::order::TRIM;

/// Removes what lies below the first entry that some group has not finished; how many went.
pub(super) async fn trim(shared: &Shared) -> Result<u64, Error> {
    shared.connection.script(&TRIM, &[&shared.keys.stream], |_| {}).await
}

/// How much waits.
pub(super) async fn depth(shared: &Shared) -> Result<Depth, Error> {
    let keys = &shared.keys;
    let mut pipeline = redis::pipe();
    pipeline.cmd("XLEN").arg(&keys.dead).cmd("XLEN").arg(&keys.stream);
    let (dead, length): (u64, u64) = shared.connection.pipeline(&pipeline).await?;
    let Some(group) = group(shared).await? else {
        // Whoever makes the group reads from the start.
        let oldest = first_entry(shared, "-".to_owned()).await?;
        return Ok(Depth { unread: length, pending: 0, dead, oldest });
    };
    let unread = match group.lag {
        Some(lag) => lag,
        None => count_unread(shared, group.last_delivered).await?,
    };
    let oldest = match (group.pending, unread) {
        (0, 0) => None,
        (0, _) => first_entry(shared, format!("({}", group.last_delivered)).await?,
        _ => first_pending(shared).await?,
    };
    Ok(Depth { unread, pending: group.pending, dead, oldest })
}

async fn group(shared: &Shared) -> Result<Option<Group>, Error> {
    match shared.connection.query(redis::cmd("XINFO").arg("GROUPS").arg(&shared.keys.stream)).await {
        Ok(groups) => answer::group(groups, &shared.keys.group),
        Err(error) if error.is_no_group() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Counts where the server cannot tell: entries have been deleted one by one, or the group was set somewhere.
async fn count_unread(shared: &Shared, after: EntryId) -> Result<u64, Error> {
    const PAGE: usize = 1_000;
    let (mut unread, mut after) = (0, after);
    loop {
        let page = answer::entries(shared.connection.query(&range(shared, format!("({after}"), PAGE)).await?)?;
        unread += page.len() as u64;
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.id,
            _ => return Ok(unread),
        }
    }
}

async fn first_entry(shared: &Shared, from: String) -> Result<Option<EntryId>, Error> {
    let page = answer::entries(shared.connection.query(&range(shared, from, 1)).await?)?;
    Ok(page.first().map(|entry| entry.id))
}

async fn first_pending(shared: &Shared) -> Result<Option<EntryId>, Error> {
    let command = &mut redis::cmd("XPENDING");
    let summary: Value = shared.connection.query(command.arg(&shared.keys.stream).arg(&shared.keys.group)).await?;
    match answer::list(summary)?.into_iter().nth(1) {
        None | Some(Value::Nil) => Ok(None),
        Some(id) => answer::entry_id(id).map(Some),
    }
}

fn range(shared: &Shared, from: String, count: usize) -> Cmd {
    let mut command = redis::cmd("XRANGE");
    command.arg(&shared.keys.stream).arg(from).arg("+").arg("COUNT").arg(count);
    command
}
