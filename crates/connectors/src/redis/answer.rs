//! Answers of the server as values of ours. Names and values of fields are bytes and stay so.

use chunk_sync_engine::ports::{Depth, EntryId};
use chunk_sync_model::event::Fields;
use redis::Value;

use super::fault::Error;

/// An entry of a stream.
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) fields: Fields,
}

/// What one read brought.
pub(super) struct Read {
    /// In the order of the stream; first those that were claimed.
    pub(super) entries: Vec<Entry>,
    /// How often each claimed entry was delivered.
    pub(super) claimed: Vec<u32>,
    /// Pending entries that are no longer in the stream.
    pub(super) gone: Vec<EntryId>,
    /// The last entry that the group was ever handed.
    pub(super) last: EntryId,
}

/// What `XINFO GROUPS` says of one group.
pub(super) struct Group {
    pub(super) pending: u64,
    pub(super) last_delivered: EntryId,
    /// How many entries it has not read; `None` where the server cannot tell without counting.
    pub(super) lag: Option<u64>,
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(Error::Answer("a list was expected")),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Error::Answer("a string was expected")),
    }
}

pub(super) fn number(value: &Value) -> Result<u64, Error> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Error::Answer("a count below zero")),
        _ => Err(Error::Answer("a number was expected")),
    }
}

pub(super) fn entry_id(value: Value) -> Result<EntryId, Error> {
    let text = String::from_utf8(bytes(value)?).unwrap_or_default();
    text.parse().map_err(|_| Error::Answer("an entry's id was expected"))
}

/// Entries as `XRANGE` gives them; what was deleted in between (nil) is left out.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Error> {
    list(value)?.into_iter().filter(|item| *item != Value::Nil).map(entry).collect()
}

/// What the script of a read answers.
pub(super) fn read(value: Value) -> Result<Read, Error> {
    let parts: [Value; 5] = list(value)?.try_into().map_err(|_| Error::Answer("what was read"))?;
    let [read, _, deliveries, gone, last] = parts;
    let (entries, claimed) = (entries(read)?, list(deliveries)?.iter().map(count).collect::<Result<_, _>>()?);
    let gone = list(gone)?.into_iter().map(entry_id).collect::<Result<_, _>>()?;
    Ok(Read { entries, claimed, gone, last: entry_id(last)? })
}

/// What the script of the depth answers.
pub(super) fn depth(value: Value) -> Result<Depth, Error> {
    let parts: [Value; 4] = list(value)?.try_into().map_err(|_| Error::Answer("how much waits"))?;
    let [unread, pending, dead, oldest] = parts;
    let oldest = if bytes(oldest.clone())?.is_empty() { None } else { Some(entry_id(oldest)?) };
    Ok(Depth { unread: number(&unread)?, pending: number(&pending)?, dead: number(&dead)?, oldest })
}

fn entry(value: Value) -> Result<Entry, Error> {
    let mut parts = list(value)?.into_iter();
    let (Some(id), Some(values)) = (parts.next(), parts.next()) else {
        return Err(Error::Answer("an entry without its fields"));
    };
    let mut values = list(values)?.into_iter();
    let mut fields = Fields::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Ok(Entry { id: entry_id(id)?, fields })
}

fn count(value: &Value) -> Result<u32, Error> {
    Ok(u32::try_from(number(value)?).unwrap_or(u32::MAX))
}

/// What `XINFO GROUPS` says of the group of that name.
pub(super) fn group(value: Value, name: &str) -> Result<Option<Group>, Error> {
    for group in list(value)? {
        let mut values = list(group)?.into_iter();
        let (mut is_it, mut pending, mut last_delivered, mut lag) = (false, 0, None, None);
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            match bytes(key)?.as_slice() {
                b"name" => is_it = bytes(value)? == name.as_bytes(),
                b"pending" => pending = number(&value)?,
                b"last-delivered-id" => last_delivered = Some(entry_id(value)?),
                b"lag" => lag = number(&value).ok(),
                _ => {}
            }
        }
        if is_it {
            let last_delivered = last_delivered.ok_or(Error::Answer("a group without its position"))?;
            return Ok(Some(Group { pending, last_delivered, lag }));
        }
    }
    Ok(None)
}
