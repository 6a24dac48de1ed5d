//! `verify`: the stores compared chunk by chunk, by what they really hold.

use chunk_sync_engine::verify::{Options, Report, verify};
use chunk_sync_model::Target;
use clap::Args;

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

/// Differences printed where nobody asked for more.
const LISTED: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many differences are listed; all are counted.
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    list: usize,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, "verify").await?;
    let total = wired.ports.records.counts().await?.chunks;
    let progress = Progress::new("comparing", total);
    let options = Options { listed: if json { usize::MAX } else { arguments.list }, ..Options::default() };
    let report = verify(&wired.ports, &options, &|done| progress.set(done, Some(total.max(done)))).await;
    progress.finish();
    let report = report?;
    if json {
        output::json(&report)?;
    } else {
        output::line(text(&report))?;
    }
    Ok(if report.consistent { Ended::Fine } else { Ended::Found })
}

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let rows = report.stores.iter().map(|(target, store)| {
        let counts = [store.count, store.missing, store.orphaned, store.different, store.stale];
        std::iter::once(target.to_string()).chain(counts.map(output::number)).collect()
    });
    let mut text = output::table(&["store", "chunks", "missing", "orphaned", "different", "stale"], rows);
    for difference in &report.differences {
        let fields = match difference.fields.as_slice() {
            [] => String::new(),
            fields => format!(" in {}", fields.join(", ")),
        };
        text.push_str(&format!("\n{} {} {}{fields}", difference.id, difference.store, difference.kind.as_str()));
    }
    let wrong: u64 = report.stores.values().map(|s| s.missing + s.orphaned + s.different + s.stale).sum();
    let unlisted = wrong.saturating_sub(report.differences.len() as u64);
    if unlisted > 0 {
        text.push_str(&format!("\n… and {} more: --list {wrong}, or --json, shows all", output::number(unlisted)));
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

/// What the graph holds beside chunks.
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
