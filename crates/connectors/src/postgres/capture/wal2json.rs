//! Decoder for `wal2json`, format version 2, limited to the ids of the touched rows. Pure.
//!
//! Source of the format: the README of wal2json 2.5, and its output.

use std::collections::HashSet;

use chunk_sync_engine::ports::{Captured, PART, Position, Touch};
use chunk_sync_model::Time;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{OWN, own_ids, position};
use crate::postgres::sql::literal;

/// The name of the plugin.
pub(super) const NAME: &str = "wal2json";

/// A line that violates the format, or a row without a column `id`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("wal2json: cannot parse a line: {0}")]
    Json(#[from] serde_json::Error),
    #[error("wal2json: a row has no column `id` that is a UUID")]
    NoId,
    #[error("wal2json: the begin of a transaction is missing, or has no timestamp or no nextlsn")]
    NoEnd,
}

#[derive(Deserialize)]
struct Line {
    action: String,
    xid: Option<u32>,
    timestamp: Option<String>,
    nextlsn: Option<String>,
    prefix: Option<String>,
    content: Option<String>,
    columns: Option<Vec<Column>>,
    identity: Option<Vec<Column>>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    value: Value,
}

/// The names of table `$2` in schema `$1` and of its partitions, in the form of the plugin's option, with what separates
/// names escaped. The plugin matches names exactly, so partitions are listed as they are when the query runs.
pub(super) const TABLES: &str = r"SELECT string_agg(regexp_replace(n.nspname, '([ '',.*\\])', '\\\1', 'g') || '.'
        || regexp_replace(c.relname, '([ '',.*\\])', '\\\1', 'g'), ',')
    FROM (SELECT format('%I.%I', $1::text, $2::text)::regclass AS oid) root
    JOIN pg_class c ON c.oid = root.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(root.oid))
    JOIN pg_namespace n ON n.oid = c.relnamespace";

/// The options of the plugin, for the statement that starts the stream. `tables` is the answer to [`TABLES`].
pub(super) fn options(tables: &str) -> String {
    format!(
        "(\"format-version\" '2', \"include-lsn\" 'true', \"include-timestamp\" 'true', \
         \"include-xids\" 'true', \"add-msg-prefixes\" '{OWN}', \"add-tables\" {})",
        literal(tables)
    )
}

/// Collects lines into parts of transactions.
#[derive(Default)]
pub(super) struct Lines {
    /// The part that is being collected, and where its transaction ends.
    open: Option<(Captured, Position)>,
    /// The rows that a merge of the service writes and that were not received yet.
    own: HashSet<Uuid>,
}

impl Lines {
    /// Processes one line and returns the part of a transaction that it ends, if any.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Option<Captured>, Malformed> {
        let line: Line = serde_json::from_slice(line)?;
        match line.action.as_str() {
            "B" => self.begin(&line)?,
            "M" if line.prefix.as_deref() == Some(OWN) => {
                self.own.extend(own_ids(line.content.as_deref().unwrap_or_default()));
            }
            "I" => self.add(&[(id(&line.columns)?, Touch::Inserted)]),
            "U" => {
                let (new, old) = (id(&line.columns)?, id(&line.identity)?);
                match new == old {
                    true => self.add(&[(new, Touch::Updated)]),
                    // A changed key is the deletion of one row and the insertion of another.
                    false => self.add(&[(old, Touch::Deleted), (new, Touch::Inserted)]),
                }
            }
            "D" => self.add(&[(id(&line.identity)?, Touch::Deleted)]),
            "T" => self.truncate(),
            "C" => {
                let (part, end) = self.open.take().ok_or(Malformed::NoEnd)?;
                return Ok(Some(Captured { end: Some(end), ..part }));
            }
            _ => {}
        }
        Ok(self.full())
    }

    fn begin(&mut self, line: &Line) -> Result<(), Malformed> {
        let at = line.timestamp.as_deref().and_then(time).ok_or(Malformed::NoEnd)?;
        let end: Position = line.nextlsn.as_deref().and_then(position::position).ok_or(Malformed::NoEnd)?;
        let transaction = line.xid;
        let part = Captured { rows: Vec::new(), truncated: false, at, commit: end, end: None, transaction };
        (self.open, self.own) = (Some((part, end)), HashSet::new());
        Ok(())
    }

    fn add(&mut self, rows: &[(Uuid, Touch)]) {
        if let Some((part, _)) = &mut self.open {
            part.rows.extend(rows.iter().filter(|(id, _)| !self.own.remove(id)));
        }
    }

    fn truncate(&mut self) {
        if let Some((part, _)) = &mut self.open {
            part.truncated = true;
            part.rows.clear();
        }
    }

    /// The part, if it is full.
    fn full(&mut self) -> Option<Captured> {
        let (part, _) = self.open.as_mut().filter(|(part, _)| part.rows.len() >= PART)?;
        let next = Captured { rows: Vec::new(), truncated: false, ..*part };
        Some(std::mem::replace(part, next))
    }
}

fn id(columns: &Option<Vec<Column>>) -> Result<Uuid, Malformed> {
    let id = columns.iter().flatten().find(|column| column.name == "id").and_then(|column| column.value.as_str());
    id.and_then(|id| id.parse().ok()).ok_or(Malformed::NoId)
}

/// Parses a time as PostgreSQL prints it in UTC: `2026-11-23 17:41:02.123456+00`.
fn time(text: &str) -> Option<Time> {
    format!("{}Z", text.strip_suffix("+00")?.replacen(' ', "T", 1)).parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";

    fn read(lines: &[String]) -> Captured {
        let mut reading = Lines::default();
        let ended: Vec<Captured> = lines.iter().filter_map(|line| reading.take(line.as_bytes()).unwrap()).collect();
        assert_eq!(ended.len(), 1, "the lines are one transaction");
        ended.into_iter().next().unwrap()
    }

    fn begin() -> String {
        r#"{"action":"B","xid":7,"lsn":"0/10","nextlsn":"1/18","timestamp":"2026-11-23 17:41:02.5+00"}"#.into()
    }

    fn commit() -> String {
        r#"{"action":"C","lsn":"0/10","nextlsn":"1/18","timestamp":"2026-11-23 17:41:02.5+00"}"#.into()
    }

    fn row(action: &str, columns: &str, identity: &str) -> String {
        let list = |id: &str| format!(r#"[{{"name":"id","type":"uuid","value":"{id}"}}]"#);
        format!(
            r#"{{"action":"{action}","schema":"unified","table":"chunks","columns":{},"identity":{}}}"#,
            list(columns),
            list(identity)
        )
    }

    #[test]
    fn a_transaction_has_its_touched_rows_and_its_end() {
        let captured = read(&[begin(), row("I", A, A), row("U", A, A), row("U", B, A), row("D", A, B), commit()]);
        let [a, b] = [A, B].map(|id| id.parse().unwrap());
        let rows =
            [(a, Touch::Inserted), (a, Touch::Updated), (a, Touch::Deleted), (b, Touch::Inserted), (b, Touch::Deleted)];
        assert_eq!(captured.rows, rows);
        assert_eq!((captured.end, captured.truncated), (Some(Position((1 << 32) | 0x18)), false));
        assert_eq!((captured.at, captured.transaction), ("2026-11-23T17:41:02.5Z".parse().unwrap(), Some(7)));
    }

    #[test]
    fn each_row_that_a_merge_lists_is_left_out_once() {
        let own = format!(r#"{{"action":"M","transactional":true,"prefix":"chunk_sync","content":"{A}"}}"#);
        assert!(read(&[begin(), own.clone(), row("I", A, A), commit()]).rows.is_empty());
        let rows = read(&[begin(), own, row("U", B, B), row("U", A, A), row("U", A, A), commit()]).rows;
        assert_eq!(rows, [B, A].map(|id| (id.parse().unwrap(), Touch::Updated)), "triggers wrote these");
        assert_eq!(
            read(&[begin(), row("I", A, A), commit()]).rows.len(),
            1,
            "the next transaction is of another program"
        );
    }

    #[test]
    fn a_truncation_drops_earlier_rows_and_keeps_later_ones() {
        let truncate = r#"{"action":"T","schema":"unified","table":"chunks"}"#.to_owned();
        let captured = read(&[begin(), row("I", A, A), truncate, row("I", B, B), commit()]);
        assert_eq!((captured.truncated, captured.rows.len()), (true, 1));
    }

    #[test]
    fn a_large_transaction_comes_in_parts_and_its_end_comes_last() {
        let mut lines = Lines::default();
        lines.take(begin().as_bytes()).unwrap();
        let rows: Vec<_> = (0..2 * PART + 1).filter_map(|_| lines.take(row("I", A, A).as_bytes()).unwrap()).collect();
        let sizes: Vec<_> = rows.iter().map(|part| (part.rows.len(), part.end)).collect();
        assert_eq!(sizes, [(PART, None), (PART, None)]);
        let last = lines.take(commit().as_bytes()).unwrap().unwrap();
        assert_eq!((last.rows.len(), last.end, last.commit), (1, Some(rows[0].commit), rows[0].commit));
    }

    #[test]
    fn a_malformed_line_is_refused() {
        for line in ["", "{}", r#"{"action":"I","columns":[]}"#, r#"{"action":"C"}"#] {
            assert!(Lines::default().take(line.as_bytes()).is_err(), "{line}");
        }
    }
}
