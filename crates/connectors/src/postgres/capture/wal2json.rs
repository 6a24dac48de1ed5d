//! The lines of `wal2json`, format version 2, as far as they say which rows were touched. Pure.
//!
//! Source of the format: the README of wal2json 2.5, and what it wrote.

use chunk_sync_engine::ports::{Captured, Position, Touch};
use chunk_sync_model::Time;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{OWN, position};

/// The name of the plugin.
pub(super) const NAME: &str = "wal2json";

/// A line that is none of this format, or of a table without a column `id`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a line of wal2json that is none: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a row without a column `id` that is a UUID")]
    NoId,
    #[error("the end of a transaction without its time or its place in the log")]
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

/// What is asked of the plugin about one table, as pairs for a list of arguments.
pub(super) fn options(schema: &str, table: &str) -> [(&'static str, String); 5] {
    [
        ("format-version", "2".to_owned()),
        ("include-lsn", "true".to_owned()),
        ("include-timestamp", "true".to_owned()),
        ("add-tables", format!("{}.{}", escaped(schema), escaped(table))),
        ("add-msg-prefixes", OWN.to_owned()),
    ]
}

/// A name as it stands in a list of tables.
fn escaped(name: &str) -> String {
    let escape = |letter: char| [' ', '\'', ',', '.', '*', '\\'].contains(&letter).then_some('\\');
    name.chars().flat_map(|letter| escape(letter).into_iter().chain([letter])).collect()
}

/// Transactions, line by line.
#[derive(Default)]
pub(super) struct Lines {
    rows: Vec<(Uuid, Touch)>,
    truncated: bool,
    /// It is the service's own.
    own: bool,
}

impl Lines {
    /// Takes one line in; the transaction that it ends.
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
                    // A changed key is a row that went and another that came.
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

/// As PostgreSQL writes it in UTC: `2026-11-23 17:41:02.123456+00`.
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
        assert_eq!(ended.len(), 1, "one transaction is one");
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
    fn a_transaction_says_which_rows_it_touched_and_where_it_ends() {
        let captured = read(&[begin(), row("I", A, A), row("U", A, A), row("U", B, A), row("D", A, B), commit()]);
        let [a, b] = [A, B].map(|id| id.parse().unwrap());
        let rows =
            [(a, Touch::Inserted), (a, Touch::Updated), (a, Touch::Deleted), (b, Touch::Inserted), (b, Touch::Deleted)];
        assert_eq!(captured.rows, rows);
        assert_eq!((captured.end, captured.truncated), (Position((1 << 32) | 0x18), false));
        assert_eq!(captured.at, "2026-11-23T17:41:02.5Z".parse().unwrap());
    }

    #[test]
    fn what_the_service_wrote_itself_is_empty() {
        let own = r#"{"action":"M","transactional":true,"prefix":"chunk_sync","content":""}"#.to_owned();
        assert!(read(&[begin(), own, row("I", A, A), commit()]).rows.is_empty());
        assert_eq!(read(&[begin(), row("I", A, A), commit()]).rows.len(), 1, "the next one is another's");
    }

    #[test]
    fn an_emptied_table_is_told_before_what_follows() {
        let truncate = r#"{"action":"T","schema":"unified","table":"chunks"}"#.to_owned();
        let captured = read(&[begin(), row("I", A, A), truncate, row("I", B, B), commit()]);
        assert_eq!((captured.truncated, captured.rows.len()), (true, 1));
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        for line in ["", "{}", r#"{"action":"I","columns":[]}"#, r#"{"action":"C"}"#] {
            assert!(Lines::default().take(line).is_err(), "{line}");
        }
    }

    #[test]
    fn names_are_escaped_as_the_plugin_wants_them() {
        assert_eq!(escaped("a.b c"), "a\\.b\\ c");
    }
}
