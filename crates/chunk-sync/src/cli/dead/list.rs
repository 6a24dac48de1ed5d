//! `dead list`: one line per dead letter, and the totals.

use chunk_sync_engine::ports::EntryId;
use chunk_sync_model::Time;
use clap::Args;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::{Filter, Pages};
use crate::cli::{Ended, Failure, output};
use crate::letters::Line;
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

/// The columns before the error.
fn cells(line: &Line) -> Vec<String> {
    let shown = |text: Option<&str>| one_line(text.filter(|text| !text.is_empty()).unwrap_or("-"));
    let when = line.dead_at.map(|at| Time::from_micros(at.micros().div_euclid(1_000_000) * 1_000_000).to_string());
    let missing: Vec<&str> = line.missing.iter().map(|target| target.as_str()).collect();
    vec![
        line.id.clone(),
        shown(when.as_deref()),
        shown(line.chunk.map(|chunk| chunk.to_string()).as_deref()),
        cut(&shown(line.source.as_deref()), LEAST),
        cut(&shown(Some(&line.error_type)), LEAST),
        cut(&shown(line.field.as_deref()), 2 * LEAST),
        line.attempts.to_string(),
        shown(Some(&missing.join(" "))),
    ]
}

pub(super) fn text(lines: &[Line], more: bool, total: u64, width: Option<usize>) -> String {
    let heading = ["id", "when", "chunk", "source", "class", "field", "attempts", "missing", "error"];
    let mut rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
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
