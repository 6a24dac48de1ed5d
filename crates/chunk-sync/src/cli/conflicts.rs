//! `conflicts`: the conflict log. This file holds the arguments and `list`; the submodules hold `show`, `resolve` and
//! `revert`.

mod resolve;
mod show;

use chunk_sync_engine::ports::{ConflictFilter, ConflictPage, ConflictRecord, NewConflict};
use chunk_sync_model::merge::{Kind, Outcome, Side, Strategy};
use chunk_sync_model::{Time, Writer};
use clap::{Args, Subcommand};
use comfy_table::presets::NOTHING;
use serde::Serialize;
use uuid::Uuid;

use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Purpose, Wired};

/// Maximum number of characters of a part's name in a list. The name of a relationship contains both its ends.
const NAME: usize = 48;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List the recorded conflicts, newest first.
    List(Filter),
    /// Show one conflict: common base, source, target and result.
    Show {
        /// The number of the conflict in the list.
        id: u64,
    },
    /// Decide a conflict: set the part to the chosen value in every store.
    Resolve(resolve::Arguments),
    /// Set the part to the other value: the one that lost, or the one stored before.
    Revert(resolve::Revert),
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only conflicts that wait for a decision of the operator.
    #[arg(long)]
    open: bool,
    /// Only conflicts on this chunk.
    #[arg(long, value_name = "UUID")]
    chunk: Option<Uuid>,
    /// Only conflicts on parts of this kind: content, embeddings, metadata, graph, other.
    #[arg(long)]
    kind: Option<Kind>,
    /// Only conflicts decided by this strategy, such as last_write_wins.
    #[arg(long)]
    strategy: Option<Strategy>,
    /// Only conflicts with this outcome: source_kept, target_kept, both_kept, merged, open.
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only conflicts between this writer and another: claude, cognee, hybrid, postgres, qdrant, neo4j.
    #[arg(long)]
    writer: Option<Writer>,
    /// Only conflicts recorded at this time or later: 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Only conflicts with a number below this one: the next page of a list that ended there.
    #[arg(long, value_name = "ID")]
    below: Option<u64>,
    /// Maximum number of conflicts to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// The list as JSON.
#[derive(Serialize)]
struct List<'a> {
    conflicts: Vec<Line<'a>>,
    /// Whether older conflicts match the filter too.
    more: bool,
    /// The number of all open conflicts, listed or not.
    open: u64,
}

/// A conflict without the values of its sides.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    met_at: Time,
    chunk: Uuid,
    part: String,
    kind: Kind,
    source: Origin,
    target: Origin,
    strategy: &'a Strategy,
    outcome: Outcome,
    open: bool,
    closed: Option<chunk_sync_engine::ports::Resolution>,
}

/// The writer and time of a side.
#[derive(Serialize)]
struct Origin {
    writer: Option<Writer>,
    time: Option<Time>,
}

pub(super) async fn execute(config: &Config, action: Action, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, Purpose::Beside, "conflicts").await?;
    match action {
        Action::List(filter) => list(&wired, &filter, json).await,
        Action::Show { id } => show::execute(&entry(&wired, id).await?, json),
        Action::Resolve(arguments) => resolve::execute(&wired, &arguments, json).await,
        Action::Revert(arguments) => resolve::revert(&wired, &arguments, json).await,
    }
}

/// Fetches the conflict with this number.
///
/// # Errors
/// [`Failure::Usage`] if the conflict log has no such number; [`Failure::Fault`] if the system of record fails.
async fn entry(wired: &Wired, id: u64) -> Result<ConflictRecord, Failure> {
    let found = wired.ports.records.conflict(id).await?;
    found.ok_or_else(|| {
        let text = format!(
            "no conflict has the number {id}, or it was closed and removed after conflicts.keep; see \
             `chunk-sync conflicts list`"
        );
        Failure::Usage(text)
    })
}

async fn list(wired: &Wired, filter: &Filter, json: bool) -> Result<Ended, Failure> {
    let records = &wired.ports.records;
    let ConflictPage { entries: found, more } =
        records.conflicts(&filter.to_conflict_filter(), filter.limit as usize).await?;
    let open = records.open_conflicts().await?;
    if json {
        output::json(&List { conflicts: found.iter().map(Line::of).collect(), more, open })?;
    } else {
        output::line(text(&found, more, open))?;
    }
    Ok(Ended::Fine)
}

fn text(found: &[ConflictRecord], more: bool, open: u64) -> String {
    let mut text = String::new();
    if !found.is_empty() {
        let heading = ["id", "when", "chunk", "part", "source", "target", "strategy", "outcome"];
        let mut table = output::text_table(&heading, found.iter().map(row));
        text.push_str(&format!("{}\n", table.load_style(NOTHING)));
    }
    if let (true, Some(last)) = (more, found.last()) {
        text.push_str(&format!("… older conflicts: --below {}\n", last.id));
    }
    text.push_str(&format!("{}; {} open in all", output::count(found.len() as u64, "conflict"), output::number(open)));
    text
}

fn row(entry: &ConflictRecord) -> Vec<String> {
    let conflict = &entry.noted.conflict;
    vec![
        entry.id.to_string(),
        seconds(entry.noted.at),
        entry.chunk.to_string(),
        short(&output::printable(&conflict.part.to_string())),
        writer(&conflict.source),
        writer(&conflict.target),
        conflict.strategy.to_string(),
        outcome(&entry.noted),
    ]
}

/// The outcome; for an open conflict that has been closed since, the writer that closed it.
fn outcome(noted: &NewConflict) -> String {
    match noted.closed {
        Some(closed) => format!("closed by {}", closed.by),
        None => noted.conflict.outcome.as_str().to_owned(),
    }
}

fn writer(side: &Side) -> String {
    side.writer.map_or_else(|| "-".to_owned(), |writer| writer.to_string())
}

/// A time, rounded down to seconds.
fn seconds(time: Time) -> String {
    Time::from_micros(time.micros().div_euclid(1_000_000) * 1_000_000).to_string()
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

impl Filter {
    fn to_conflict_filter(&self) -> ConflictFilter {
        ConflictFilter {
            chunk: self.chunk,
            kind: self.kind,
            strategy: self.strategy,
            outcome: self.outcome,
            writer: self.writer,
            open: self.open,
            since: self.since,
            below: self.below,
        }
    }
}

impl<'a> Line<'a> {
    fn of(entry: &'a ConflictRecord) -> Self {
        let (noted, conflict) = (&entry.noted, &entry.noted.conflict);
        let origin = |side: &Side| Origin { writer: side.writer, time: side.time };
        Self {
            id: entry.id,
            met_at: noted.at,
            chunk: entry.chunk,
            part: conflict.part.to_string(),
            kind: conflict.kind,
            source: origin(&conflict.source),
            target: origin(&conflict.target),
            strategy: &conflict.strategy,
            outcome: conflict.outcome,
            open: noted.is_open(),
            closed: noted.closed,
        }
    }
}

#[cfg(test)]
mod tests;
