//! `conflicts show`: the four sides of one conflict, side by side where there is room, and the lines that differ.

use std::io::IsTerminal;

use chunk_sync_engine::ports::Recorded;
use chunk_sync_model::Part;
use chunk_sync_model::chunk::{Dense, Sparse};
use chunk_sync_model::merge::{Outcome, Side};
use comfy_table::ContentArrangement;
use diffy::Line;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{Ended, Failure, output};

/// Narrower terminals show the sides one below the other.
const SIDE_BY_SIDE: u16 = 100;

/// Numbers of a vector that are shown.
const FIRST: usize = 5;

/// How it is shown.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// The width of the terminal; `None` where it is none.
    pub(super) width: Option<u16>,
    pub(super) colours: bool,
}

impl Look {
    /// As standard output takes it.
    fn of_output() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = comfy_table::Table::new().width().filter(|_| is_terminal);
        Self { width, colours: is_terminal && !plain }
    }
}

pub(super) fn execute(entry: &Recorded, json: bool) -> Result<Ended, Failure> {
    if json {
        output::json(entry)?;
    } else {
        output::line(text(entry, Look::of_output()))?;
    }
    Ok(Ended::Fine)
}

pub(super) fn text(entry: &Recorded, look: Look) -> String {
    let (met, conflict) = (&entry.met, &entry.met.conflict);
    let sides = [
        ("base", &conflict.base),
        ("source", &conflict.source),
        ("target", &conflict.target),
        ("result", &conflict.result),
    ];
    let mut text = format!(
        "conflict {}: {} of chunk {}\nmet {} as sync version {}; {}: {}\n",
        entry.id,
        output::printable(&conflict.part.to_string()),
        entry.chunk,
        met.at,
        met.sync_version,
        conflict.strategy,
        conflict.outcome.as_str()
    );
    if let Some(closed) = met.closed {
        text.push_str(&format!("closed {} by {}\n", closed.at, closed.by));
    }
    if met.is_open() {
        text.push_str(&format!(
            "it waits: `chunk-sync conflicts resolve {} --take source|target|base|FILE`\n",
            entry.id
        ));
    }
    match look.width.filter(|width| *width >= SIDE_BY_SIDE) {
        Some(width) => text.push_str(&beside(&conflict.part, sides, width)),
        None => text.push_str(&below(&conflict.part, sides)),
    }
    if let Some(lines) = differences(&conflict.part, &conflict.target, &conflict.source, look) {
        text.push_str("\nfrom target (-) to source (+):\n");
        text.push_str(&lines);
    }
    if conflict.outcome == Outcome::Merged
        && let Some(lines) = differences(&conflict.part, &conflict.target, &conflict.result, look)
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
    let when = |side: &Side| side.time.map_or_else(String::new, |time| time.to_string());
    let rows = [row("who", &who), row("when", &when), row("what", &|side| what(part, side))];
    let heading: Vec<&str> = std::iter::once("").chain(sides.map(|(name, _)| name)).collect();
    let mut table = output::text_table(&heading, rows);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    format!("{table}\n")
}

fn below(part: &Part, sides: [(&str, &Side); 4]) -> String {
    let side = |(name, side): (&str, &Side)| {
        let when = side.time.map_or_else(String::new, |time| format!(", {time}"));
        format!("\n{name}: {}{when}\n{}\n", who(side), what(part, side).trim_end_matches('\n'))
    };
    sides.map(side).concat()
}

fn who(side: &Side) -> String {
    side.writer.map_or_else(|| "nobody".to_owned(), |writer| writer.to_string())
}

/// What the side says, for people.
fn what(part: &Part, side: &Side) -> String {
    match (&side.value, side.hash) {
        (Some(value), _) => output::printable(&shown(part, value)),
        (None, Some(hash)) => format!("(not kept; its hash is {hash:?})"),
        (None, None) => "(not there)".to_owned(),
    }
}

fn shown(part: &Part, value: &Value) -> String {
    let vector = match part {
        Part::Dense(_) => Dense::deserialize(value).ok().map(|dense| {
            let made = dense.timestamp.map_or_else(String::new, |time| format!(", made {time}"));
            let first: Vec<String> = dense.vector.iter().take(FIRST).map(ToString::to_string).collect();
            format!("{} numbers{made}: {}", dense.vector.len(), listed(&first, dense.vector.len()))
        }),
        Part::Sparse => Sparse::deserialize(value).ok().map(|sparse| {
            let pairs = sparse.indices.iter().zip(&sparse.values).take(FIRST);
            let first: Vec<String> = pairs.map(|(index, number)| format!("{index}: {number}")).collect();
            let count = sparse.indices.len();
            format!("{count} numbers by {}: {}", sparse.model, listed(&first, count))
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

/// The lines by which two sides differ; `None` where they cannot be held against each other.
fn differences(part: &Part, old: &Side, new: &Side, look: Look) -> Option<String> {
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
            match colour.filter(|_| look.colours) {
                Some(colour) => text.push_str(&format!("\u{1b}[{colour}m{mark}{line}\u{1b}[0m\n")),
                None => text.push_str(&format!("{mark}{line}\n")),
            }
        }
    }
    Some(text).filter(|text| !text.is_empty())
}
