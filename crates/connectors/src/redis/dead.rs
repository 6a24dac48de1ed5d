//! Dead letters, in a separate stream.

use chunk_sync_engine::ports::{DeadLetter, EntryId, Letter};
use chunk_sync_model::event::Fields;
use jiff::Timestamp;
use redis::Value;

use super::Shared;
use super::answer;
use super::command::add_command;
use super::fault::Error;
use super::scripts::{LETTER, LETTERS};

/// Adds the letters to the stream of dead letters, then acknowledges their entries. A crash in between leaves them in both
/// streams, and the letters are written a second time.
pub(super) async fn dead_letter(shared: &Shared, letters: &[DeadLetter]) -> Result<(), Error> {
    for part in letters.chunks(100) {
        let mut pipeline = redis::pipe();
        for letter in part {
            pipeline.add_command(add_command(&shared.keys.dead, &letter.fields()));
        }
        match shared.connection.pipeline::<Vec<Value>>(&pipeline).await {
            Err(error) if error.is_out_of_memory() => {
                if part.iter().any(|letter| letter.fields.len() > FIELDS) {
                    return Err(error);
                }
                for letter in part {
                    add_in_full_memory(shared, &letter.fields()).await?;
                }
            }
            added => drop(added?),
        }
        let ids: Vec<_> = part.iter().filter_map(|letter| letter.id).collect();
        shared.finish(&ids).await?;
    }
    Ok(())
}

/// The most fields that a script can pass on.
const FIELDS: usize = 3_000;

/// Adds a letter although the server's memory is full: otherwise nothing that must be dead-lettered could be finished.
async fn add_in_full_memory(shared: &Shared, fields: &Fields) -> Result<(), Error> {
    let names = [&*shared.keys.dead];
    let answer = shared.connection.script::<String>(&LETTER, &names, |command| {
        for (name, value) in fields {
            command.arg(name.as_slice()).arg(value.as_slice());
        }
    });
    answer.await.map(drop)
}

/// Approximate limit of the bytes that one read of letters returns.
const PAGE_BYTES: usize = 8 << 20;

/// The fields that the reading script adds to the dead letter of an entry above the limit of bytes. The script puts the
/// number of bytes before the error.
pub(super) fn reasons_of_long_entry(limit: usize) -> Vec<(String, String)> {
    let letter = DeadLetter::of_long_entry(EntryId::default(), 0, limit, Timestamp::now().into());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let reasons = letter.fields().into_iter().map(|(name, value)| (text(name), text(value)));
    let reasons = reasons.filter(|(name, _)| name != "stream_id");
    // The error begins with the number of bytes, here 0.
    reasons.map(|(name, value)| if name == "error" { (name, value[1..].to_owned()) } else { (name, value) }).collect()
}

/// Letters with ids above `after` in ascending order, at most `limit` and about [`PAGE_BYTES`]; none means the end. Long
/// values of a letter above the limit of bytes are abridged.
pub(super) async fn letters(shared: &Shared, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Error> {
    let after = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let page: Value = shared
        .connection
        .script(&LETTERS, &[&shared.keys.dead], |command| {
            // The reasons have some kilobytes.
            command.arg(after).arg(limit).arg(PAGE_BYTES).arg(shared.keys.entry_max_bytes + (64 << 10));
        })
        .await?;
    let entries = answer::entries(page)?;
    Ok(entries.into_iter().map(|entry| Letter { id: entry.id, fields: entry.fields }).collect())
}

/// Removes a letter. Returns whether it existed.
pub(super) async fn remove(shared: &Shared, id: EntryId) -> Result<bool, Error> {
    shared.connection.query(redis::cmd("XDEL").arg(&shared.keys.dead).arg(id.to_string())).await
}
