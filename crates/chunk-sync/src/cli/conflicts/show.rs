//! `conflicts show`: the four sides of one conflict, side by side on a wide terminal, and the differing lines.

use chunk_sync_engine::ports::ConflictRecord;
use chunk_sync_model::Part;
use chunk_sync_model::chunk::{Dense, Sparse};
use chunk_sync_model::merge::{Outcome, Side};
use comfy_table::ContentArrangement;
use diffy::Line;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{Ended, Failure, output};

/// Minimum width for the sides in columns; on narrower terminals they are shown one below the other.
const SIDE_BY_SIDE: u16 = 100;

/// How many numbers of a vector are shown.
const FIRST: usize = 5;

/// Display settings.
#[derive(Clone, Copy)]
pub(super) struct Display {
    /// The width of the terminal; `None` if the output is not a terminal.
    pub(super) width: Option<u16>,
    pub(super) colours: bool,
}

impl Display {
    /// The settings for standard output.
    fn of_output() -> Self {
        Self { width: output::terminal_width(), colours: output::wants_colours() }
    }
}

pub(super) fn execute(entry: &ConflictRecord, json: bool) -> Result<Ended, Failure> {
    if json {
        output::json(entry)?;
    } else {
        output::coloured(text(entry, Display::of_output()))?;
    }
    Ok(Ended::Fine)
}

pub(super) fn text(entry: &ConflictRecord, display: Display) -> String {
    let (noted, conflict) = (&entry.noted, &entry.noted.conflict);
    let sides = [
        ("base", &conflict.base),
        ("source", &conflict.source),
        ("target", &conflict.target),
        ("result", &conflict.result),
    ];
    let mut text = format!(
        "conflict {}: {} of chunk {}\nmerged {} as sync version {}; strategy {}, outcome {}\n",
        entry.id,
        output::printable(&conflict.part.to_string()),
        entry.chunk,
        noted.at,
        noted.sync_version,
        conflict.strategy,
        conflict.outcome.as_str()
    );
    if let Some(closed) = noted.closed {
        text.push_str(&format!("closed {} by {}\n", closed.at, closed.by));
    }
    if noted.is_open() {
        text.push_str(&format!(
            "open; to decide it, run `chunk-sync conflicts resolve {} --take source|target|base|FILE`\n",
            entry.id
        ));
    }
    match display.width.filter(|width| *width >= SIDE_BY_SIDE) {
        Some(width) => text.push_str(&beside(&conflict.part, sides, width)),
        None => text.push_str(&below(&conflict.part, sides)),
    }
    if let Some(lines) = differences(&conflict.part, &conflict.target, &conflict.source, display) {
        text.push_str("\nfrom target (-) to source (+):\n");
        text.push_str(&lines);
    }
    if conflict.outcome == Outcome::Merged
        && let Some(lines) = differences(&conflict.part, &conflict.target, &conflict.result, display)
    {
        text.push_str("\nfrom target (-) to result (+):\n");
        text.push_str(&lines);
    }
    text.trim_end().to_owned()
}

fn beside(part: &Part, sides: [(&str, &Side); 4], width: u16) -> String {
    let row = |name: &str, cell: &dyn Fn(&Side) -> String| {
        std::iter::once(name.to_owned()).chain(sides.iter().map(|(_, side)| cell(side))).collect()
    };
    let time = |side: &Side| side.time.map_or_else(String::new, |time| time.to_string());
    let rows = [row("writer", &writer), row("time", &time), row("value", &|side| value(part, side))];
    let heading: Vec<&str> = std::iter::once("").chain(sides.map(|(name, _)| name)).collect();
    let mut table = output::text_table(&heading, rows);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    format!("{table}\n")
}

fn below(part: &Part, sides: [(&str, &Side); 4]) -> String {
    let side = |(name, side): (&str, &Side)| {
        let time = side.time.map_or_else(String::new, |time| format!(", {time}"));
        format!("\n{name}: {}{time}\n{}\n", writer(side), value(part, side).trim_end_matches('\n'))
    };
    sides.map(side).concat()
}

fn writer(side: &Side) -> String {
    side.writer.map_or_else(|| "no writer".to_owned(), |writer| writer.to_string())
}

/// The value of a side for display, or why there is none.
fn value(part: &Part, side: &Side) -> String {
    match (&side.value, side.hash) {
        (Some(value), _) => output::printable_lines(&shown(part, value)),
        (None, Some(hash)) => format!("(value not kept; hash {hash:?})"),
        (None, None) => "(absent)".to_owned(),
    }
}

fn shown(part: &Part, value: &Value) -> String {
    let vector = match part {
        Part::Dense(_) => Dense::deserialize(value).ok().map(|dense| {
            let created = dense.timestamp.map_or_else(String::new, |time| format!(", created {time}"));
            let first: Vec<String> = dense.vector.iter().take(FIRST).map(ToString::to_string).collect();
            format!("{} numbers{created}: {}", dense.vector.len(), listed(&first, dense.vector.len()))
        }),
        Part::Sparse => Sparse::deserialize(value).ok().map(|sparse| {
            let pairs = sparse.indices.iter().zip(&sparse.values).take(FIRST);
            let first: Vec<String> = pairs.map(|(index, number)| format!("{index}: {number}")).collect();
            let count = sparse.indices.len();
            format!("{count} numbers from {}: {}", sparse.model, listed(&first, count))
        }),
        _ => None,
    };
    vector.unwrap_or_else(|| match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    })
}

fn listed(first: &[String], of: usize) -> String {
    let rest = if of > first.len() { ", …" } else { "" };
    format!("[{}{rest}]", first.join(", "))
}

/// The differing lines of two sides as a diff; `None` if they are equal, a value is absent, or the part is a vector or
/// the chunk's existence.
fn differences(part: &Part, old: &Side, new: &Side, display: Display) -> Option<String> {
    if matches!(part, Part::Dense(_) | Part::Sparse | Part::Existence) {
        return None;
    }
    let (old, new) = (shown(part, old.value.as_ref()?), shown(part, new.value.as_ref()?));
    let patch = diffy::create_patch(&old, &new);
    let mut text = String::new();
    for hunk in patch.hunks() {
        text.push_str(&format!("@@ -{} +{} @@\n", hunk.old_range(), hunk.new_range()));
        for line in hunk.lines() {
            let (mark, colour, line) = match line {
                Line::Context(line) => (' ', None, line),
                Line::Delete(line) => ('-', Some(31), line),
                Line::Insert(line) => ('+', Some(32), line),
            };
            let line = output::printable(line.trim_end_matches('\n'));
            match colour.filter(|_| display.colours) {
                Some(colour) => text.push_str(&format!("\u{1b}[{colour}m{mark}{line}\u{1b}[0m\n")),
                None => text.push_str(&format!("{mark}{line}\n")),
            }
        }
    }
    Some(text).filter(|text| !text.is_empty())
}
