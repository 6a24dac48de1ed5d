//! Decoder for `wal2json`, format version 2, limited to the ids of the touched rows. Pure.
//!
//! Source of the format: the README of wal2json 2.5, and its output.

use chunk_sync_engine::ports::{Captured, Position, Touch};
use chunk_sync_model::Time;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{OWN, position};

/// The name of the plugin.
pub(super) const NAME: &str = "wal2json";

/// A line that violates the format, or a row without a column `id`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("wal2json: cannot parse a line: {0}")]
    Json(#[from] serde_json::Error),
    #[error("wal2json: a row has no column `id` that is a UUID")]
    NoId,
    #[error("wal2json: the commit of a transaction has no timestamp or no nextlsn")]
    NoEnd,
}

#[derive(Deserialize)]
struct Line {
    action: String,
    timestamp: Option<String>,
    nextlsn: Option<String>,
    prefix: Option<String>,
    #[serde(default)]
    columns: Vec<Column>,
    #[serde(default)]
    identity: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    value: Value,
}

/// The options of the plugin for one table, as names and values.
pub(super) fn options(schema: &str, table: &str) -> [(&'static str, String); 5] {
    [
        ("format-version", "2".to_owned()),
        ("include-lsn", "true".to_owned()),
        ("include-timestamp", "true".to_owned()),
        ("add-tables", format!("{}.{}", escaped(schema), escaped(table))),
        ("add-msg-prefixes", OWN.to_owned()),
    ]
}

/// Escapes a name for the option `add-tables`.
fn escaped(name: &str) -> String {
    let escape = |letter: char| [' ', '\'', ',', '.', '*', '\\'].contains(&letter).then_some('\\');
    name.chars().flat_map(|letter| escape(letter).into_iter().chain([letter])).collect()
}

/// Collects lines into transactions.
#[derive(Default)]
pub(super) struct Lines {
    rows: Vec<(Uuid, Touch)>,
    truncated: bool,
    /// Whether the service itself wrote it.
    own: bool,
}

impl Lines {
    /// Processes one line and returns the transaction that it ends, if any.
    pub(super) fn take(&mut self, line: &str) -> Result<Option<Captured>, Malformed> {
        let line: Line = serde_json::from_str(line)?;
        match line.action.as_str() {
            "B" => *self = Self::default(),
            "M" => self.own |= line.prefix.as_deref() == Some(OWN),
            "I" => self.rows.push((id(&line.columns)?, Touch::Inserted)),
            "U" => {
                let (new, old) = (id(&line.columns)?, id(&line.identity)?);
                match new == old {
                    true => self.rows.push((new, Touch::Updated)),
                    // A changed key is the deletion of one row and the insertion of another.
                    false => self.rows.extend([(old, Touch::Deleted), (new, Touch::Inserted)]),
                }
            }
            "D" => self.rows.push((id(&line.identity)?, Touch::Deleted)),
            "T" => {
                self.truncated = true;
                self.rows.clear();
            }
            "C" => return self.end(&line).map(Some),
            _ => {}
        }
        Ok(None)
    }

    fn end(&mut self, line: &Line) -> Result<Captured, Malformed> {
        let Self { rows, truncated, own } = std::mem::take(self);
        let at = line.timestamp.as_deref().and_then(time).ok_or(Malformed::NoEnd)?;
        let end: Position = line.nextlsn.as_deref().and_then(position::position).ok_or(Malformed::NoEnd)?;
        let (rows, truncated) = if own { (Vec::new(), false) } else { (rows, truncated) };
        Ok(Captured { rows, truncated, at, end })
    }
}

fn id(columns: &[Column]) -> Result<Uuid, Malformed> {
    let id = columns.iter().find(|column| column.name == "id").and_then(|column| column.value.as_str());
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
        let ended: Vec<Captured> = lines.iter().filter_map(|line| reading.take(line).unwrap()).collect();
        assert_eq!(ended.len(), 1, "the lines are one transaction");
        ended.into_iter().next().unwrap()
    }

    fn begin() -> String {
        r#"{"action":"B","lsn":"0/10","nextlsn":"0/18","timestamp":"2026-11-23 17:41:02.5+00"}"#.into()
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
        assert_eq!((captured.end, captured.truncated), (Position((1 << 32) | 0x18), false));
        assert_eq!(captured.at, "2026-11-23T17:41:02.5Z".parse().unwrap());
    }

    #[test]
    fn a_transaction_of_the_service_has_no_rows() {
        let own = r#"{"action":"M","transactional":true,"prefix":"chunk_sync","content":""}"#.to_owned();
        assert!(read(&[begin(), own, row("I", A, A), commit()]).rows.is_empty());
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
    fn a_malformed_line_is_refused() {
        for line in ["", "{}", r#"{"action":"I","columns":[]}"#, r#"{"action":"C"}"#] {
            assert!(Lines::default().take(line).is_err(), "{line}");
        }
    }

    #[test]
    fn names_are_escaped_for_the_plugin() {
        assert_eq!(escaped("a.b c"), "a\\.b\\ c");
    }
}
