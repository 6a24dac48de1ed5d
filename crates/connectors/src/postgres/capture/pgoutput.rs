//! Decoder for `pgoutput`, protocol version 1, limited to the ids of the touched rows. Pure, and never panics.
//!
//! Source of the format: PostgreSQL's documentation, "Logical Replication Message Formats".

use std::collections::{BTreeSet, HashMap};

use chunk_sync_engine::ports::{Position, Touch};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::{OWN, own_ids};
use crate::postgres::sql::{literal, quoted};

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The options of the plugin, for the statement that starts the stream. Protocol version 1 sends a transaction once it has
/// committed.
pub(super) fn options(publication: &str) -> String {
    format!("(proto_version '1', publication_names {}, messages 'true')", literal(&quoted(publication)))
}

/// A message that violates the protocol, or a table without a published column `id`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("pgoutput: the message is truncated")]
    Short,
    #[error("pgoutput: a row of a table that no relation message described")]
    UnknownTable,
    #[error("the publication does not include the column `id` of the table; publish the whole table or the column id")]
    NoId,
    #[error("pgoutput: the id of a row is not a UUID")]
    NotUuid,
}

/// A decoded message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Rows touched, in order.
    Rows(Vec<(Uuid, Touch)>),
    /// The table was emptied.
    Truncate,
    /// A transaction begins: where it commits, when, and its number.
    Begin { commit: Position, at: Time, transaction: u32 },
    /// The transaction ends there.
    Commit { end: Position },
    /// A merge of the service writes these rows in the transaction.
    Own(Vec<Uuid>),
    /// Any other message.
    Other,
}

/// The relations whose changes are reported. The publication may hold other tables as well.
#[derive(Debug)]
pub(super) struct Tables {
    /// The OIDs of the table of chunks and its partitions.
    ours: BTreeSet<u32>,
    /// For each of them that was described, the index of the column `id`.
    described: HashMap<u32, Option<usize>>,
}

impl Tables {
    pub(super) fn of(ours: BTreeSet<u32>) -> Self {
        Self { ours, described: HashMap::new() }
    }

    /// Decodes one message. A change of another relation is [`Message::Other`].
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Message, Malformed> {
        let mut bytes = Bytes(message);
        match bytes.u8()? {
            b'R' => self.describe(&mut bytes).map(|()| Message::Other),
            b'I' | b'U' | b'D' if !self.ours.contains(&Bytes(bytes.0).u32()?) => Ok(Message::Other),
            b'I' => {
                let id = self.row(&mut bytes)?;
                Ok(Message::Rows(vec![(id, Touch::Inserted)]))
            }
            b'U' => self.update(&mut bytes),
            b'D' => {
                let id = self.row(&mut bytes)?;
                Ok(Message::Rows(vec![(id, Touch::Deleted)]))
            }
            b'T' => self.truncate(&mut bytes),
            b'B' => begin(&mut bytes),
            b'C' => commit(&mut bytes),
            b'M' => note(&mut bytes),
            _ => Ok(Message::Other),
        }
    }

    fn describe(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Malformed> {
        let table = bytes.u32()?;
        // Its schema, its name, and how rows are identified.
        bytes.text()?;
        bytes.text()?;
        bytes.u8()?;
        let mut id = None;
        for column in 0..bytes.u16()? as usize {
            bytes.u8()?;
            if bytes.text()? == b"id" {
                id = Some(column);
            }
            // Its type and its modifier.
            bytes.take(8)?;
        }
        if self.ours.contains(&table) {
            self.described.insert(table, id);
        }
        Ok(())
    }

    /// A truncation: the number of relations, options, and the OID of each.
    fn truncate(&self, bytes: &mut Bytes<'_>) -> Result<Message, Malformed> {
        let count = bytes.u32()?;
        bytes.u8()?;
        let mut is_ours = false;
        for _ in 0..count {
            is_ours |= self.ours.contains(&bytes.u32()?);
        }
        Ok(if is_ours { Message::Truncate } else { Message::Other })
    }

    /// An update. A changed key is reported as the deletion of one row and the insertion of another.
    fn update(&self, bytes: &mut Bytes<'_>) -> Result<Message, Malformed> {
        let place = self.place(bytes)?;
        let mut rows = Vec::new();
        let mut kind = bytes.u8()?;
        let old = if matches!(kind, b'K' | b'O') {
            let old = id(bytes, place)?;
            kind = bytes.u8()?;
            Some(old)
        } else {
            None
        };
        if kind != b'N' {
            return Err(Malformed::Short);
        }
        let new = id(bytes, place)?;
        match old {
            Some(old) if old != new => rows.extend([(old, Touch::Deleted), (new, Touch::Inserted)]),
            _ => rows.push((new, Touch::Updated)),
        }
        Ok(Message::Rows(rows))
    }

    fn row(&self, bytes: &mut Bytes<'_>) -> Result<Uuid, Malformed> {
        let place = self.place(bytes)?;
        bytes.u8()?;
        id(bytes, place)
    }

    fn place(&self, bytes: &mut Bytes<'_>) -> Result<usize, Malformed> {
        self.described.get(&bytes.u32()?).ok_or(Malformed::UnknownTable)?.ok_or(Malformed::NoId)
    }
}

/// The begin of a transaction: the position and the time of its commit, and its number.
fn begin(bytes: &mut Bytes<'_>) -> Result<Message, Malformed> {
    let commit = Position(bytes.u64()?);
    let at = Time::from_micros(bytes.u64()?.cast_signed().saturating_add(POSTGRES_EPOCH));
    let transaction = bytes.u32()?;
    Ok(Message::Begin { commit, at, transaction })
}

/// The commit: flags, its position, the end of the transaction, its time.
fn commit(bytes: &mut Bytes<'_>) -> Result<Message, Malformed> {
    bytes.u8()?;
    bytes.u64()?;
    let end = Position(bytes.u64()?);
    bytes.u64()?;
    Ok(Message::Commit { end })
}

/// A logical message: flags, its position, its prefix, its content.
fn note(bytes: &mut Bytes<'_>) -> Result<Message, Malformed> {
    bytes.u8()?;
    bytes.u64()?;
    if bytes.text()? != OWN.as_bytes() {
        return Ok(Message::Other);
    }
    let length = bytes.u32()? as usize;
    let content = std::str::from_utf8(bytes.take(length)?).unwrap_or_default();
    Ok(Message::Own(own_ids(content)))
}

/// Reads all columns of a row and returns its id.
fn id(bytes: &mut Bytes<'_>, place: usize) -> Result<Uuid, Malformed> {
    let mut found = None;
    for column in 0..bytes.u16()? as usize {
        let value = match bytes.u8()? {
            b't' | b'b' => {
                let length = bytes.u32()? as usize;
                Some(bytes.take(length)?)
            }
            // NULL, or left out because it did not change.
            _ => None,
        };
        if column == place {
            found = value;
        }
    }
    let text = found.and_then(|value| std::str::from_utf8(value).ok()).ok_or(Malformed::NotUuid)?;
    text.parse().map_err(|_| Malformed::NotUuid)
}

/// A cursor over the remaining bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A string that ends in a zero byte.
    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::Short)?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
