//! `doctor`: checks everything that the service needs, read-only. The connectors check the servers; `here` checks this
//! machine; this file prints the findings.

mod here;

use chunk_sync_engine::ports::{Finding, Level};
use clap::Args;
use serde::Serialize;

use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is created or changed. Objects that are missing and that `chunk-sync init` creates are warnings.

Exit codes: 0 no check failed; 1 a check failed; 2 the configuration is invalid; 3 a server does not answer.")]
pub(super) struct Arguments {
    /// Print only warnings and failures.
    #[arg(long)]
    problems: bool,
}

/// The result as JSON.
#[derive(Serialize)]
struct Examination<'a> {
    ok: u64,
    warnings: u64,
    failed: u64,
    unreachable: u64,
    findings: &'a [Finding],
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let (stores, mut findings) = tokio::join!(wiring::examine(config), here::examine(config));
    findings.splice(..0, stores);
    let count = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
    let (ok, warnings, failed) = (count(Level::Ok), count(Level::Warning), count(Level::Failed));
    let unreachable = count(Level::Unreachable);
    if arguments.problems {
        findings.retain(|finding| finding.level > Level::Ok);
    }
    if json {
        output::json(&Examination { ok, warnings, failed, unreachable, findings: &findings })?;
    } else {
        for finding in &findings {
            output::line(text(finding))?;
        }
        output::line(format_args!(
            "{ok} ok, {}, {failed} failed, {unreachable} without answer",
            output::count(warnings, "warning")
        ))?;
    }
    match (unreachable, failed) {
        (0, 0) => Ok(Ended::Fine),
        (0, _) => Ok(Ended::Found),
        _ => Err(Failure::Unable(anyhow::anyhow!("no answer from {}", silent(&findings)))),
    }
}

/// The places that did not answer, separated by commas.
fn silent(findings: &[Finding]) -> String {
    let silent = findings.iter().filter(|finding| finding.level == Level::Unreachable);
    let mut places: Vec<&str> = silent.map(|finding| finding.place).collect();
    places.dedup();
    places.join(", ")
}

fn text(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Failed => "FAILED",
        Level::Unreachable => "NO ANSWER",
    };
    let Finding { place, subject, .. } = finding;
    let said = output::printable(&finding.text);
    let remedy = finding
        .remedy
        .as_deref()
        .map_or_else(String::new, |remedy| format!("\n{:11}→ {}", "", output::printable(remedy)));
    format!("{level:9}  {place}: {subject}: {said}{remedy}")
}
