//! From the messages of a plugin to parts of transactions. Pure.

use std::collections::HashSet;

use chunk_sync_engine::ports::{Captured, PART, Position};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::pgoutput::{self, Message, Tables};
use super::wal2json::{self, Lines};

/// The decoder of a plugin.
pub(super) enum Decoder {
    Pgoutput(Transactions),
    Wal2Json(Lines),
}

/// A message that violates the format of its plugin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error(transparent)]
    Pgoutput(#[from] pgoutput::Malformed),
    #[error(transparent)]
    Wal2Json(#[from] wal2json::Malformed),
}

impl Decoder {
    /// Processes one message and returns the part of a transaction that it ends, if any.
    pub(super) fn take(&mut self, message: &[u8]) -> Result<Option<Captured>, Malformed> {
        match self {
            Self::Pgoutput(transactions) => Ok(transactions.take(message)?),
            Self::Wal2Json(lines) => Ok(lines.take(message)?),
        }
    }
}

/// Collects the messages of `pgoutput`.
pub(super) struct Transactions {
    tables: Tables,
    /// The transaction that is being received.
    open: Option<Open>,
}

/// The part of a transaction that is being received.
struct Open {
    part: Captured,
    /// The rows that a merge of the service writes and that were not received yet.
    own: HashSet<Uuid>,
}

impl Open {
    fn begin(commit: Position, at: Time, transaction: u32) -> Self {
        let transaction = Some(transaction);
        let part = Captured { rows: Vec::new(), truncated: false, at, commit, end: None, transaction };
        Self { part, own: HashSet::new() }
    }

    /// Adds a change; returns the part once it is full.
    fn add(&mut self, message: Message) -> Option<Captured> {
        match message {
            Message::Rows(rows) => self.part.rows.extend(rows.into_iter().filter(|(id, _)| !self.own.remove(id))),
            // The rows that were changed before are gone.
            Message::Truncate => {
                self.part.truncated = true;
                self.part.rows.clear();
            }
            _ => {}
        }
        (self.part.rows.len() >= PART).then(|| self.next())
    }

    fn next(&mut self) -> Captured {
        let next = Captured { rows: Vec::new(), truncated: false, ..self.part };
        std::mem::replace(&mut self.part, next)
    }
}

impl Transactions {
    pub(super) fn of(tables: Tables) -> Self {
        Self { tables, open: None }
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<Captured>, pgoutput::Malformed> {
        match self.tables.read(message)? {
            Message::Begin { commit, at, transaction } => self.open = Some(Open::begin(commit, at, transaction)),
            Message::Own(ids) => {
                if let Some(open) = &mut self.open {
                    open.own.extend(ids);
                }
            }
            Message::Commit { end } => {
                return Ok(self.open.take().map(|open| Captured { end: Some(end), ..open.part }));
            }
            change => return Ok(self.open.as_mut().and_then(|open| open.add(change))),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn begin(commit: u64) -> Vec<u8> {
        let mut bytes = vec![b'B'];
        bytes.extend(commit.to_be_bytes());
        bytes.extend(0_i64.to_be_bytes());
        bytes.extend(7_u32.to_be_bytes());
        bytes
    }

    fn commit(end: u64) -> Vec<u8> {
        let mut bytes = vec![b'C', 0];
        bytes.extend((end - 8).to_be_bytes());
        bytes.extend(end.to_be_bytes());
        bytes.extend(0_i64.to_be_bytes());
        bytes
    }

    fn note(prefix: &str, content: &str) -> Vec<u8> {
        let mut bytes = vec![b'M', 1];
        bytes.extend(9_u64.to_be_bytes());
        bytes.extend(prefix.as_bytes());
        bytes.push(0);
        bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content.as_bytes());
        bytes
    }

    fn described() -> Vec<u8> {
        let mut bytes = b"R\0\0\0Munified\0chunks\0d\0\x01\x01id\0".to_vec();
        bytes.extend([0; 8]);
        bytes
    }

    fn updated(id: Uuid) -> Vec<u8> {
        let text = id.to_string();
        let mut bytes = b"U\0\0\0MN\0\x01t\0\0\0".to_vec();
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
        bytes
    }

    const TRUNCATE: &[u8] = b"T\0\0\0\x01\0\0\0\0M";

    fn read(messages: &[Vec<u8>]) -> Vec<Captured> {
        let mut transactions = Transactions::of(Tables::of([77].into()));
        messages.iter().filter_map(|message| transactions.take(message).unwrap()).collect()
    }

    #[test]
    fn a_transaction_has_the_time_and_the_end_of_its_commit() {
        let captured = read(&[begin(0x10), TRUNCATE.to_vec(), commit(0x20)]);
        assert_eq!(captured.len(), 1, "{captured:?}");
        let one = &captured[0];
        assert_eq!((one.commit, one.end, one.truncated), (Position(0x10), Some(Position(0x20)), true));
        assert_eq!((one.at, one.transaction), ("2000-01-01T00:00:00Z".parse().unwrap(), Some(7)));
    }

    #[test]
    fn each_row_that_a_merge_lists_is_left_out_once() {
        let [own, other] = [1, 2].map(Uuid::from_u128);
        let listed = note("chunk_sync", &own.to_string());
        let cases = [
            (listed.clone(), vec![own], vec![], "a write of the merge"),
            (listed.clone(), vec![own, other], vec![other], "a trigger writes another row"),
            (listed.clone(), vec![own, own], vec![own], "a trigger writes the row again"),
            (note("chunk_sync", "heartbeat"), vec![own], vec![own], "the message lists no row"),
            (note("chunk_sync_other", &own.to_string()), vec![own], vec![own], "the message of another program"),
        ];
        for (note, rows, expected, case) in cases {
            let rows = rows.into_iter().map(updated);
            let next = [begin(48), updated(own), commit(64)];
            let messages: Vec<_> =
                [described(), begin(16), note].into_iter().chain(rows).chain([commit(32)]).chain(next).collect();
            let ids = |part: &Captured| part.rows.iter().map(|(id, _)| *id).collect::<Vec<_>>();
            let captured = read(&messages);
            assert_eq!((ids(&captured[0]), ids(&captured[1])), (expected, vec![own]), "{case}");
        }
    }

    #[test]
    fn a_truncation_by_a_trigger_is_reported() {
        let messages = [begin(16), note("chunk_sync", &Uuid::nil().to_string()), TRUNCATE.to_vec(), commit(32)];
        assert!(read(&messages)[0].truncated);
    }

    #[test]
    fn a_truncated_begin_or_commit_is_refused() {
        for whole in [begin(16), commit(32), note("chunk_sync", "heartbeat")] {
            for length in 0..whole.len() {
                assert!(Transactions::of(Tables::of([77].into())).take(&whole[..length]).is_err(), "{length}");
            }
        }
    }
}
