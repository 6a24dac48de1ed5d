//! Answers of the server as values of ours. Names and values of fields are bytes and stay so.

use chunk_sync_engine::ports::EntryId;
use chunk_sync_model::event::Fields;
use redis::Value;

use super::fault::Error;

/// An entry of a stream.
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) fields: Fields,
}

/// An entry that has been delivered and is not finished.
pub(super) struct Pending {
    pub(super) id: EntryId,
    pub(super) deliveries: u32,
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

/// Entries as `XRANGE` and `XCLAIM` give them; what was deleted in between (nil) is left out.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Error> {
    list(value)?.into_iter().filter(|item| *item != Value::Nil).map(entry).collect()
}

/// The entries of the one stream that was read; none where the wait ended without any.
pub(super) fn read(value: Value) -> Result<Vec<Entry>, Error> {
    match list(value)?.pop().map(list).transpose()?.and_then(|mut stream| stream.pop()) {
        Some(stream) => entries(stream),
        None => Ok(Vec::new()),
    }
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

/// What `XPENDING` with a range says.
pub(super) fn pending(value: Value) -> Result<Vec<Pending>, Error> {
    let row = |value| {
        let mut row = list(value)?.into_iter();
        let (Some(id), Some(deliveries)) = (row.next(), row.nth(2)) else {
            return Err(Error::Answer("a pending entry without its count"));
        };
        Ok(Pending { id: entry_id(id)?, deliveries: count(&deliveries)? })
    };
    list(value)?.into_iter().map(row).collect()
}

pub(super) fn count(value: &Value) -> Result<u32, Error> {
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
