//! `verify`: compares the stores chunk by chunk, by what they hold, and repairs differences on request.

mod absence;
mod absent;
mod repair;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::anyhow;
use chunk_sync_engine::repair::Orphans;
use chunk_sync_engine::verify::{Options, Report, verify};
use chunk_sync_model::Target;
use clap::{Args, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::progress::Progress;
use super::run::Signals;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Purpose, Wired};

use repair::Outcome;

/// Default for the number of differences printed.
const LISTED: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
A repair uses the path of every change: the row decides, or its tombstone if it was deleted, and every store is written under \
a new version. A chunk with neither row nor record is listed and not changed.

Exit codes: 0 all stores agree, or agree after the repair; 1 stores differ; 2 wrong usage or configuration; 3 a store cannot be \
read.")]
pub(super) struct Arguments {
    /// Repair differences, wait until the repair is complete, and compare the repaired chunks again.
    #[arg(long)]
    repair: bool,
    /// Print what a repair would do with each chunk, and why, without doing it.
    #[arg(long)]
    dry_run: bool,
    /// Write what a repair would do to FILE, one JSON object per line, for --apply, without doing it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Carry out a plan written by --plan. Lines may be removed from it. The row decides, as it is when the plan is applied.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repair", "dry_run", "plan", "deleted", "stores", "project", "dataset", "after", "rate"])]
    apply: Option<PathBuf>,
    /// What a repair does with chunks that only Qdrant or Neo4j holds and that have no record.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Choice::List)]
    orphans: Choice,
    /// What a repair does with living chunks whose row is absent. Without this, they are noted and deleted only after a second
    /// look, within the limit, and only if a deletion may have been missed.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Choice::List)]
    absent: Choice,
    /// Instead of comparing, check that these deleted chunks are absent from every store.
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["repair", "dry_run", "plan"])]
    deleted: Vec<Uuid>,
    /// Compare only these stores with the rows.
    #[arg(long, value_name = "STORE,…", value_delimiter = ',', value_enum)]
    stores: Vec<Projection>,
    /// Compare only chunks whose row has this project.
    #[arg(long, value_name = "UUID")]
    project: Option<Uuid>,
    /// Compare only chunks whose row has this data set.
    #[arg(long, value_name = "UUID")]
    dataset: Option<Uuid>,
    /// Compare only chunks with a greater id, to continue a comparison that was stopped.
    #[arg(long, value_name = "ID")]
    after: Option<Uuid>,
    /// Maximum number of chunks compared per second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Maximum number of differences to list; all are counted.
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    list: usize,
}

/// What a repair does with orphans that have no record, or with chunks that have no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// List them: a lost row cannot be distinguished from a stray point.
    List,
    /// Delete them.
    Delete,
}

/// A store that is compared with the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Projection {
    Qdrant,
    Neo4j,
}

/// The result as JSON.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<&'a Outcome>,
}

pub(super) async fn execute(config: Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let mut wired = wiring::open(&config, Purpose::Beside, "verify").await?;
    if !arguments.deleted.is_empty() {
        return absence::execute(&wired, &arguments.deleted, json).await;
    }
    if let Some(plan) = &arguments.apply {
        let outcome = repair::apply(config, &wired, plan, &arguments.options(json)).await?;
        return say_applied(&outcome, json);
    }
    for store in &arguments.stores {
        wired.must_have(Target::from(*store))?;
    }
    let all = wired.ports.stores.clone();
    arguments.narrow(&mut wired);
    let report = compare(&wired, arguments, json).await?;
    if report.stopped_after.is_some() {
        say(&report, None, json)?;
        return Err(Failure::Unable(anyhow!("stopped before the end; nothing was repaired")));
    }
    if !(arguments.repair || arguments.dry_run || arguments.plan.is_some()) || report.consistent {
        say(&report, None, json)?;
        return Ok(if report.consistent { Ended::Fine } else { Ended::Found });
    }
    let mut steps = chunk_sync_engine::repair::plan(&report.findings, arguments.orphans.into());
    if arguments.absent == Choice::Delete {
        repair::decide_absent(&mut steps);
    }
    if arguments.dry_run || arguments.plan.is_some() {
        let outcome = Outcome::planned(steps, report.differing);
        if let Some(file) = &arguments.plan {
            repair::keep(&outcome.plan, file)?;
        }
        say(&report, Some(&outcome), json)?;
        return Ok(Ended::Found);
    }
    absent::alarm(&wired, &report).await?;
    let narrowed = std::mem::replace(&mut wired.ports.stores, all);
    let started = Instant::now();
    let absent = absent::review_all(&config, &wired, &steps, arguments.absent == Choice::Delete).await?;
    repair::carry(config, &wired, &steps, absent).await?;
    wired.ports.stores = narrowed;
    let outcome = repair::look(&wired, &arguments.options(json), steps, started, report.findings.clone()).await?;
    say(&report, Some(&outcome), json)?;
    Ok(if outcome.complete { Ended::Fine } else { Ended::Found })
}

async fn compare(wired: &Wired, arguments: &Arguments, json: bool) -> Result<Report, Failure> {
    let total = wired.ports.records.counts().await?.chunks;
    let progress = Progress::new("comparing", total);
    let options = arguments.options(json);
    let mut signals = Signals::listen()?;
    let show = |done| progress.set(done, Some(total.max(done)));
    let work = verify(&wired.ports, &options, &show);
    tokio::pin!(work);
    let report = tokio::select! {
        report = &mut work => report,
        () = signals.next() => {
            options.stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    progress.finish();
    Ok(report?)
}

impl Arguments {
    fn options(&self, json: bool) -> Options {
        Options {
            listed: if json { usize::MAX } else { self.list },
            rate: self.rate,
            project: self.project,
            dataset: self.dataset,
            after: self.after,
            ..Options::default()
        }
    }

    /// Keeps only the stores named by --stores.
    fn narrow(&self, wired: &mut Wired) {
        let named = |target: Target| self.stores.iter().any(|store| Target::from(*store) == target);
        if !self.stores.is_empty() {
            wired.ports.stores.retain(|store| named(store.target()));
        }
    }
}

impl From<Projection> for Target {
    fn from(store: Projection) -> Self {
        match store {
            Projection::Qdrant => Self::Qdrant,
            Projection::Neo4j => Self::Neo4j,
        }
    }
}

impl From<Choice> for Orphans {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::List => Self::List,
            Choice::Delete => Self::Delete,
        }
    }
}

fn say(report: &Report, repair: Option<&Outcome>, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&Whole { report, repair });
    }
    output::line(text(report))?;
    repair.map_or(Ok(()), |outcome| output::line(outcome.text()))
}

fn say_applied(outcome: &Outcome, json: bool) -> Result<Ended, Failure> {
    if json {
        output::json(outcome)?;
    } else {
        output::line(outcome.text())?;
    }
    Ok(if outcome.complete { Ended::Fine } else { Ended::Found })
}

/// The report as text.
pub(super) fn text(report: &Report) -> String {
    let rows = report.stores.iter().map(|(target, store)| {
        let counts = [store.count, store.missing, store.orphaned, store.different, store.stale, store.oversize];
        std::iter::once(target.to_string()).chain(counts.map(output::number)).collect()
    });
    let mut text = output::table(&["store", "chunks", "missing", "orphaned", "different", "stale", "oversize"], rows);
    for difference in &report.differences {
        let fields = match difference.fields.as_slice() {
            [] => String::new(),
            fields => output::printable(&format!(" in {}", fields.join(", "))),
        };
        text.push_str(&format!("\n{} {} {}{fields}", difference.id, difference.store, difference.kind.as_str()));
    }
    let wrong: u64 = report.stores.values().map(chunk_sync_engine::verify::StoreReport::wrong).sum();
    let unlisted = wrong.saturating_sub(report.differences.len() as u64);
    if unlisted > 0 {
        text.push_str(&format!("\n… and {} more; --list {wrong} or --json lists all", output::number(unlisted)));
    }
    if report.unsettled > 0 {
        let moving = output::count(report.unsettled, "chunk");
        text.push_str(&format!("\n{moving} changed during every comparison: neither equal nor different"));
    }
    if let Some(id) = report.stopped_after {
        text.push_str(&format!("\nstopped after {id}; `verify --after {id}` continues from there"));
    }
    text.push_str(&format!("\n{}", graph(report)));
    text.push_str(&format!(
        "{} of {} consistent, compared in {:.1} s",
        output::percent(report.consistency),
        output::count(report.chunks, "chunk"),
        report.seconds
    ));
    text
}

/// Counts of what the graph holds besides chunks, as a line; empty if there are none.
fn graph(report: &Report) -> String {
    let others = report.stores.get(&Target::Neo4j).map(|store| &store.others).filter(|others| !others.is_empty());
    others.map_or_else(String::new, |others| {
        let counts: Vec<_> = others
            .iter()
            .map(|(name, count)| format!("{} {}", output::number(*count), name.replace('_', " ")))
            .collect();
        format!("graph: {}\n", counts.join(", "))
    })
}
