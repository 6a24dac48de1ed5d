//! Parses the server's answers. Names and values of fields are bytes and are not decoded.

use chunk_sync_engine::ports::{Depth, EntryId};
use chunk_sync_model::Time;
use chunk_sync_model::event::Fields;
use redis::Value;

use super::fault::Error;

/// An entry of a stream.
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) fields: Fields,
}

/// Result of one read.
pub(super) struct Read {
    /// In stream order; the claimed entries come first.
    pub(super) entries: Vec<Entry>,
    /// Delivery count of each claimed entry, in the order of `entries`.
    pub(super) claimed: Vec<u32>,
    /// Pending entries that are no longer in the stream.
    pub(super) gone: Vec<EntryId>,
    /// The last entry that the server ever delivered to the group.
    pub(super) last: EntryId,
    /// Entries above the limit of bytes, which the script dead-lettered, with their bytes.
    pub(super) long: Vec<(EntryId, u64)>,
    /// Whether the script read more entries than it returned; the next read claims them.
    pub(super) more: bool,
    /// Entries that other clients removed before they were read.
    pub(super) loss: Loss,
    /// The server's clock.
    pub(super) time: Time,
}

/// Unread entries that other clients removed.
#[derive(Clone, Copy)]
pub(super) struct Loss {
    /// Whether a loss was found now.
    pub(super) found: bool,
    /// The number found now; 0 if it is not known yet.
    pub(super) now: u64,
    /// The number of lost entries in total.
    pub(super) total: u64,
}

/// The life of the group.
pub(super) struct Life {
    pub(super) name: String,
    pub(super) loss: Loss,
    /// The number of entries ever added to the stream.
    pub(super) added: u64,
}

/// The depth, and the number of entries ever added to the stream.
pub(super) struct Measured {
    pub(super) depth: Depth,
    pub(super) added: u64,
}

/// The result of a trimming.
pub(super) struct Trimmed {
    pub(super) entries: u64,
    /// Other groups that hold the trimming up and make no progress: name, and milliseconds since the last progress.
    pub(super) idle: Vec<IdleGroup>,
}

/// Another group that makes no progress.
#[derive(Clone, Debug)]
pub(super) struct IdleGroup {
    pub(super) name: String,
    pub(super) millis: u64,
}

/// One group as reported by `XINFO GROUPS`.
pub(super) struct Group {
    pub(super) pending: u64,
    pub(super) last_delivered: EntryId,
    /// Number of entries that the group has not read; `None` if the server does not report it (entries were deleted).
    pub(super) lag: Option<u64>,
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(Error::Answer("expected a list")),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Error::Answer("expected a string")),
    }
}

pub(super) fn number(value: &Value) -> Result<u64, Error> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Error::Answer("a count is negative")),
        _ => Err(Error::Answer("expected an integer")),
    }
}

pub(super) fn entry_id(value: Value) -> Result<EntryId, Error> {
    let text = String::from_utf8(bytes(value)?).unwrap_or_default();
    text.parse().map_err(|_| Error::Answer("expected an entry id `milliseconds-sequence`"))
}

/// Parses entries as `XRANGE` returns them. Entries deleted in the meantime (nil) are left out.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Error> {
    list(value)?.into_iter().filter(|item| *item != Value::Nil).map(entry).collect()
}

/// Parses the answer of `lua/read.lua`.
pub(super) fn read(value: Value) -> Result<Read, Error> {
    let parts: [Value; 11] = list(value)?.try_into().map_err(|_| Error::Answer("the read script: not 11 values"))?;
    let [read, _, deliveries, gone, last, long, more, found, now, total, clock] = parts;
    let (entries, claimed) = (entries(read)?, list(deliveries)?.iter().map(count).collect::<Result<_, _>>()?);
    let gone = list(gone)?.into_iter().map(entry_id).collect::<Result<_, _>>()?;
    let long = list(long)?.into_iter().map(long_entry).collect::<Result<_, _>>()?;
    let (more, loss) = (number(&more)? > 0, loss(&found, &now, &total)?);
    Ok(Read { entries, claimed, gone, last: entry_id(last)?, long, more, loss, time: time(clock)? })
}

fn long_entry(value: Value) -> Result<(EntryId, u64), Error> {
    let parts: [Value; 2] = list(value)?.try_into().map_err(|_| Error::Answer("a long entry: not 2 values"))?;
    let [id, bytes] = parts;
    Ok((entry_id(id)?, number(&bytes)?))
}

/// Parses the answer of `lua/epoch.lua`.
pub(super) fn life(value: Value) -> Result<Life, Error> {
    let parts: [Value; 5] = list(value)?.try_into().map_err(|_| Error::Answer("the epoch script: not 5 values"))?;
    let [name, found, now, total, added] = parts;
    let name = String::from_utf8(bytes(name)?).map_err(|_| Error::Answer("the name of a life is not UTF-8"))?;
    Ok(Life { name, loss: loss(&found, &now, &total)?, added: number(&added)? })
}

fn loss(found: &Value, now: &Value, total: &Value) -> Result<Loss, Error> {
    Ok(Loss { found: number(found)? > 0, now: number(now)?, total: number(total)? })
}

/// Parses the answer of `TIME`.
pub(super) fn time(value: Value) -> Result<Time, Error> {
    let parts: [Value; 2] = list(value)?.try_into().map_err(|_| Error::Answer("TIME: not 2 values"))?;
    let [seconds, micros] = parts.map(|part| {
        let text = String::from_utf8(bytes(part)?).unwrap_or_default();
        text.parse::<i64>().map_err(|_| Error::Answer("TIME: expected a number"))
    });
    Ok(Time::from_micros(seconds?.saturating_mul(1_000_000).saturating_add(micros?)))
}

/// Parses the answer of `lua/depth.lua`.
pub(super) fn depth(value: Value) -> Result<Measured, Error> {
    let parts: [Value; 5] = list(value)?.try_into().map_err(|_| Error::Answer("the depth script: not 5 values"))?;
    let [unread, pending, dead, oldest, added] = parts;
    let oldest = if bytes(oldest.clone())?.is_empty() { None } else { Some(entry_id(oldest)?) };
    let depth = Depth { unread: number(&unread)?, pending: number(&pending)?, dead: number(&dead)?, oldest };
    Ok(Measured { depth, added: number(&added)? })
}

/// Parses the answer of `lua/trim.lua`.
pub(super) fn trimmed(value: Value) -> Result<Trimmed, Error> {
    let parts: [Value; 2] = list(value)?.try_into().map_err(|_| Error::Answer("the trim script: not 2 values"))?;
    let [entries, idle] = parts;
    let idle = list(idle)?.into_iter().map(idle_group).collect::<Result<_, _>>()?;
    Ok(Trimmed { entries: number(&entries)?, idle })
}

fn idle_group(value: Value) -> Result<IdleGroup, Error> {
    let parts: [Value; 2] = list(value)?.try_into().map_err(|_| Error::Answer("an idle group: not 2 values"))?;
    let [name, millis] = parts;
    Ok(IdleGroup { name: String::from_utf8_lossy(&bytes(name)?).into_owned(), millis: number(&millis)? })
}

fn entry(value: Value) -> Result<Entry, Error> {
    let mut parts = list(value)?.into_iter();
    let (Some(id), Some(values)) = (parts.next(), parts.next()) else {
        return Err(Error::Answer("an entry has no fields"));
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

/// Finds the group called `name` in the answer of `XINFO GROUPS`.
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
            let last_delivered = last_delivered.ok_or(Error::Answer("a group has no last-delivered-id"))?;
            return Ok(Some(Group { pending, last_delivered, lag }));
        }
    }
    Ok(None)
}
