//! `conflicts`: the record of what writers met on. `list` here; one of them, and what a person decides, below.

mod resolve;
mod show;

use chunk_sync_engine::ports::{ConflictFilter, Met, Recorded};
use chunk_sync_model::merge::{Kind, Outcome, Side, Strategy};
use chunk_sync_model::{Time, Writer};
use clap::{Args, Subcommand};
use comfy_table::presets::NOTHING;
use serde::Serialize;
use uuid::Uuid;

use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Wired};

/// The longest name of a part in a list; a relationship's has both its ends in it.
const NAME: usize = 48;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// What is on record, the newest first.
    List(Filter),
    /// One conflict: what both began with, what each said, what was held and what came of it.
    Show {
        /// Its number in the list.
        id: u64,
    },
    /// Decide one: the part becomes what is chosen, in every store.
    Resolve(resolve::Arguments),
    /// Give the part back the value that does not show: what lost, or what was held before.
    Revert(resolve::Revert),
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only those that wait for a person.
    #[arg(long)]
    open: bool,
    /// Only those on this chunk.
    #[arg(long, value_name = "UUID")]
    chunk: Option<Uuid>,
    /// Only those on parts of this kind: content, embeddings, metadata, graph, other.
    #[arg(long)]
    kind: Option<Kind>,
    /// Only those that this strategy decided, such as last_write_wins.
    #[arg(long)]
    strategy: Option<Strategy>,
    /// Only those that ended so: source_kept, target_kept, both_kept, merged, open.
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only those between this writer and another: claude, cognee, hybrid, postgres, qdrant, neo4j.
    #[arg(long)]
    writer: Option<Writer>,
    /// Only those met then or later: 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Only those with a number below this: what a list that ended there left out.
    #[arg(long, value_name = "ID")]
    below: Option<u64>,
    /// How many are listed.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// The list as JSON.
#[derive(Serialize)]
struct List<'a> {
    conflicts: Vec<Line<'a>>,
    /// Older ones fit as well.
    more: bool,
    /// All that wait for a person, listed or not.
    open: u64,
}

/// A conflict without its values.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    met_at: Time,
    chunk: Uuid,
    part: String,
    kind: Kind,
    source: Said,
    target: Said,
    strategy: &'a Strategy,
    outcome: Outcome,
    open: bool,
    closed: Option<chunk_sync_engine::ports::Closed>,
}

/// Who said a side, and when.
#[derive(Serialize)]
struct Said {
    writer: Option<Writer>,
    time: Option<Time>,
}

pub(super) async fn execute(config: &Config, action: Action, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, "conflicts").await?;
    match action {
        Action::List(filter) => list(&wired, &filter, json).await,
        Action::Show { id } => show::execute(&entry(&wired, id).await?, json),
        Action::Resolve(arguments) => resolve::execute(&wired, &arguments, json).await,
        Action::Revert(arguments) => resolve::revert(&wired, &arguments, json).await,
    }
}

/// The entry with that number.
async fn entry(wired: &Wired, id: u64) -> Result<Recorded, Failure> {
    let found = wired.ports.records.conflict(id).await?;
    found.ok_or_else(|| {
        let text = format!("no conflict has the number {id}, or it was settled and forgotten (`conflicts.keep`)");
        Failure::Usage(text)
    })
}

async fn list(wired: &Wired, filter: &Filter, json: bool) -> Result<Ended, Failure> {
    let records = &wired.ports.records;
    let limit = filter.limit as usize;
    let mut found = records.conflicts(&filter.wanted(), limit + 1).await?;
    let open = records.open_conflicts().await?;
    let more = found.len() > limit;
    found.truncate(limit);
    if json {
        output::json(&List { conflicts: found.iter().map(Line::of).collect(), more, open })?;
    } else {
        output::line(text(&found, more, open))?;
    }
    Ok(Ended::Fine)
}

fn text(found: &[Recorded], more: bool, open: u64) -> String {
    let mut text = String::new();
    if !found.is_empty() {
        let heading = ["id", "when", "chunk", "part", "source", "target", "strategy", "outcome"];
        let mut table = output::text_table(&heading, found.iter().map(row));
        text.push_str(&format!("{}\n", table.load_style(NOTHING)));
    }
    if let (true, Some(last)) = (more, found.last()) {
        text.push_str(&format!("… and older ones: --below {}\n", last.id));
    }
    text.push_str(&format!("{}; {} open in all", output::count(found.len() as u64, "conflict"), output::number(open)));
    text
}

fn row(entry: &Recorded) -> Vec<String> {
    let conflict = &entry.met.conflict;
    vec![
        entry.id.to_string(),
        seconds(entry.met.at),
        entry.chunk.to_string(),
        short(&output::printable(&conflict.part.to_string())),
        writer(&conflict.source),
        writer(&conflict.target),
        conflict.strategy.to_string(),
        outcome(&entry.met),
    ]
}

/// How it ended; of what was left open and decided since, who did.
fn outcome(met: &Met) -> String {
    match met.closed {
        Some(closed) => format!("closed by {}", closed.by),
        None => met.conflict.outcome.as_str().to_owned(),
    }
}

fn writer(side: &Side) -> String {
    side.writer.map_or_else(|| "-".to_owned(), |writer| writer.to_string())
}

/// A time without the digits below seconds.
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
    fn wanted(&self) -> ConflictFilter {
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
    fn of(entry: &'a Recorded) -> Self {
        let (met, conflict) = (&entry.met, &entry.met.conflict);
        let said = |side: &Side| Said { writer: side.writer, time: side.time };
        Self {
            id: entry.id,
            met_at: met.at,
            chunk: entry.chunk,
            part: conflict.part.to_string(),
            kind: conflict.kind,
            source: said(&conflict.source),
            target: said(&conflict.target),
            strategy: &conflict.strategy,
            outcome: conflict.outcome,
            open: met.is_open(),
            closed: met.closed,
        }
    }
}

#[cfg(test)]
mod tests;
