//! `dead list`: one line per dead letter, and the totals.

use chunk_sync_engine::ports::EntryId;
use chunk_sync_model::{Target, Time};
use clap::Args;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use uuid::Uuid;

use super::{Dead, Filter, Pages};
use crate::cli::{Ended, Failure, output};
use crate::wiring::Wired;

/// Minimum width of the column with the error, in characters.
const LEAST: usize = 24;

/// Padding of a column, in characters.
const PADDING: usize = 2;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    filter: Filter,
    /// Only dead letters after this one: the next page of a list that ended there.
    #[arg(long, value_name = "ID")]
    after: Option<EntryId>,
    /// Maximum number of dead letters to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// The list as JSON.
#[derive(Serialize)]
struct List {
    dead: Vec<Line>,
    /// Whether more dead letters match the filter.
    more: bool,
    /// The number of all dead letters, listed or not.
    total: u64,
}

/// A dead letter without its fields.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) dead_at: Option<Time>,
    pub(super) stream_id: String,
    pub(super) chunk: Option<Uuid>,
    pub(super) source: Option<String>,
    pub(super) error_type: String,
    pub(super) field: Option<String>,
    pub(super) attempts: u32,
    pub(super) missing: Vec<Target>,
    pub(super) error: String,
    pub(super) superseded: bool,
}

pub(super) async fn execute(wired: &Wired, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let limit = arguments.limit as usize;
    let mut pages = Pages::of(wired, arguments.after).await?;
    let mut lines = Vec::new();
    while lines.len() <= limit
        && let Some(page) = pages.next().await?
    {
        lines.extend(page.iter().filter(|dead| arguments.filter.matches(dead)).map(Line::of));
    }
    let more = lines.len() > limit;
    lines.truncate(limit);
    let list = List { dead: lines, more, total: wired.ports.bus.depth().await?.dead };
    if json {
        output::json(&list)?;
    } else {
        let width = output::terminal_width().map(usize::from);
        output::line(text(&list.dead, list.more, list.total, width))?;
    }
    Ok(Ended::Fine)
}

impl Line {
    pub(super) fn of(dead: &Dead) -> Self {
        let (letter, reasons) = (&dead.letter, dead.reasons.clone());
        Self {
            id: letter.id.to_string(),
            dead_at: reasons.at,
            stream_id: reasons.stream_id,
            chunk: letter.chunk(),
            source: letter.text("source").map(Into::into),
            error_type: reasons.class,
            field: reasons.field,
            attempts: reasons.attempts,
            missing: reasons.missing,
            error: reasons.error,
            superseded: dead.superseded,
        }
    }

    /// The columns before the error.
    fn cells(&self) -> Vec<String> {
        let shown = |text: Option<&str>| one_line(text.filter(|text| !text.is_empty()).unwrap_or("-"));
        let when = self.dead_at.map(|at| Time::from_micros(at.micros().div_euclid(1_000_000) * 1_000_000).to_string());
        let missing: Vec<&str> = self.missing.iter().map(|target| target.as_str()).collect();
        vec![
            self.id.clone(),
            shown(when.as_deref()),
            shown(self.chunk.map(|chunk| chunk.to_string()).as_deref()),
            cut(&shown(self.source.as_deref()), LEAST),
            cut(&shown(Some(&self.error_type)), LEAST),
            cut(&shown(self.field.as_deref()), 2 * LEAST),
            self.attempts.to_string(),
            shown(Some(&missing.join(" "))),
        ]
    }
}

pub(super) fn text(lines: &[Line], more: bool, total: u64, width: Option<usize>) -> String {
    let heading = ["id", "when", "chunk", "source", "class", "field", "attempts", "missing", "error"];
    let mut rows: Vec<Vec<String>> = lines.iter().map(Line::cells).collect();
    let taken: usize = (0..heading.len() - 1)
        .map(|i| PADDING + rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0).max(heading[i].len()))
        .sum();
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(taken + PADDING).max(LEAST));
    for (row, line) in rows.iter_mut().zip(lines) {
        let mark = if line.superseded { "superseded; " } else { "" };
        row.push(cut(&one_line(&format!("{mark}{}", line.error)), room));
    }
    let mut text = String::new();
    if !rows.is_empty() {
        text = format!("{}\n", output::text_table(&heading, rows).load_style(NOTHING));
    }
    if let (true, Some(last)) = (more, lines.last()) {
        text.push_str(&format!("… more dead letters: --after {}\n", last.id));
    }
    text + &format!("{}; {} in all", output::count(lines.len() as u64, "dead letter"), output::number(total))
}

/// Foreign text on one line, with control characters escaped for the terminal.
fn one_line(text: &str) -> String {
    output::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}
