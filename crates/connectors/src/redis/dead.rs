//! Dead letters, in a separate stream.

use chunk_sync_engine::ports::{DeadLetter, EntryId, Letter};
use redis::Value;

use super::Shared;
use super::answer;
use super::command::add_command;
use super::fault::Error;

/// Adds the letters to the stream of dead letters, then acknowledges their entries. A crash in between leaves them in both
/// streams, and the letters are written a second time.
pub(super) async fn dead_letter(shared: &Shared, letters: &[DeadLetter]) -> Result<(), Error> {
    for part in letters.chunks(100) {
        let mut pipeline = redis::pipe();
        for letter in part {
            pipeline.add_command(add_command(&shared.keys.dead, &letter.fields()));
        }
        shared.connection.pipeline::<Vec<Value>>(&pipeline).await?;
        let ids: Vec<_> = part.iter().filter_map(|letter| letter.id).collect();
        shared.finish(&ids).await?;
    }
    Ok(())
}

/// Letters with ids above `after` in ascending order, at most `limit`.
pub(super) async fn letters(shared: &Shared, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Error> {
    let after = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let mut command = redis::cmd("XRANGE");
    command.arg(&shared.keys.dead).arg(after).arg("+").arg("COUNT").arg(limit);
    let entries = answer::entries(shared.connection.query(&command).await?)?;
    Ok(entries.into_iter().map(|entry| Letter { id: entry.id, fields: entry.fields }).collect())
}

/// Removes a letter. Returns whether it existed.
pub(super) async fn remove(shared: &Shared, id: EntryId) -> Result<bool, Error> {
    shared.connection.query(redis::cmd("XDEL").arg(&shared.keys.dead).arg(id.to_string())).await
}
