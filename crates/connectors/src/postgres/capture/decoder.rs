//! From the messages of a plugin to parts of transactions. Pure.

use chunk_sync_engine::ports::{Captured, PART, Position};
use chunk_sync_model::Time;

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
    /// Whether the service itself wrote it.
    own: bool,
}

impl Open {
    fn begin(commit: Position, at: Time) -> Self {
        let part = Captured { rows: Vec::new(), truncated: false, at, commit, end: None };
        Self { part, own: false }
    }

    /// Adds a change; returns the part once it is full.
    fn add(&mut self, message: Message) -> Option<Captured> {
        match message {
            Message::Rows(rows) => self.part.rows.extend(rows),
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
        let next = Self::begin(self.part.commit, self.part.at);
        std::mem::replace(&mut self.part, next.part)
    }
}

impl Transactions {
    pub(super) fn of(tables: Tables) -> Self {
        Self { tables, open: None }
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<Captured>, pgoutput::Malformed> {
        match self.tables.read(message)? {
            Message::Begin { commit, at } => self.open = Some(Open::begin(commit, at)),
            Message::Own => {
                if let Some(open) = &mut self.open {
                    open.own = true;
                }
            }
            Message::Commit { end } => {
                return Ok(self.open.take().map(|open| Captured { end: Some(end), ..open.part }));
            }
            change => return Ok(self.open.as_mut().filter(|open| !open.own).and_then(|open| open.add(change))),
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

    fn note(prefix: &str) -> Vec<u8> {
        let mut bytes = vec![b'M', 1];
        bytes.extend(9_u64.to_be_bytes());
        bytes.extend(prefix.as_bytes());
        bytes.extend([0, 0, 0, 0, 0]);
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
        assert_eq!(one.at, "2000-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_transaction_of_the_service_touches_nothing_and_the_next_one_does() {
        let own = [begin(16), note("chunk_sync"), TRUNCATE.to_vec(), commit(32)];
        assert!(!read(&own)[0].truncated);
        let others = [begin(48), note("chunk_sync_other"), TRUNCATE.to_vec(), commit(64)];
        assert!(read(&[own, others].concat())[1].truncated);
    }

    #[test]
    fn a_truncated_begin_or_commit_is_refused() {
        for whole in [begin(16), commit(32), note("chunk_sync")] {
            for length in 0..whole.len() - usize::from(whole[0] == b'M') * 4 {
                assert!(Transactions::of(Tables::of([77].into())).take(&whole[..length]).is_err(), "{length}");
            }
        }
    }
}
