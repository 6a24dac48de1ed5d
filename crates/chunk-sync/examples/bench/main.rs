//! Measures the service on real servers, each figure beside a limit or a peer of the same run, and writes the figures as
//! JSON. `cargo xtask bench` builds the program, starts the servers and runs this.
//!
//! Every round measures the service and its peers one after the other, in another order each time; a figure is the
//! median over the rounds. After each measurement `verify` must find no difference. A measurement that fails is named in
//! the report with its reason, and the others follow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod bus;
mod commits;
mod environment;
mod load;
mod plots;
mod report;
mod scale;
mod upkeep;
mod visible;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use environment::Environment;
use report::Report;
use serde_json::Value;

/// What can be measured.
const GROUPS: [&str; 8] = ["bus", "load", "updates", "latency", "commits", "verify", "scale", "recovery"];

/// Measures the service on real servers, each figure beside a limit or a peer of the same run
#[derive(clap::Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// Measure only these [default: all]
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', value_parser = GROUPS)]
    only: Vec<String>,
    /// Measure less of everything, in some minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Rounds; a figure is their median
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Chunks loaded and updated
    #[arg(long, value_name = "N", default_value_t = 40_000, default_value_if("quick", "true", "2000"))]
    pub(crate) chunks: usize,
    /// Entries that are pending when the process is killed
    #[arg(long, value_name = "N", default_value_t = 100_000, default_value_if("quick", "true", "4000"))]
    pub(crate) pending: usize,
    /// Seconds at each rate of commits
    #[arg(long, value_name = "S", default_value_t = 60, default_value_if("quick", "true", "5"))]
    pub(crate) seconds: u64,
    /// Commits per second for the latencies
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "20,100,200,500,1000",
        default_value_if("quick", "true", "20,200")
    )]
    pub(crate) rates: Vec<u64>,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
    /// Measure nothing: take the figures from a stored report
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Compare with a stored report
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Draw the figures into this directory
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
}

impl Options {
    fn wants_any(&self, groups: &[&str]) -> bool {
        groups.iter().any(|group| self.wants(group))
    }

    pub(crate) fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == group)
    }
}

/// The measurements on stores that were loaded before.
const LOADED: [&str; 5] = ["load", "updates", "commits", "latency", "verify"];

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let (report, is_complete) = match &options.from {
        Some(path) => (stored(path), true),
        None => measured(&options).await,
    };
    if let Some(path) = &options.against {
        report::compare(&report, &stored(path));
    }
    if let Some(directory) = &options.plots {
        plots::draw(&report, directory).unwrap();
        println!("drawn in {}", directory.display());
    }
    if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn stored(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Measures what is wanted; returns the report, and whether all of it could be measured.
async fn measured(options: &Options) -> (Value, bool) {
    let mut report = Report::default();
    if options.wants("bus") {
        report.measure("bus", async |report: &mut Report| bus::measure(report)).await;
    }
    if options.wants_any(&LOADED) || options.wants_any(&["recovery", "scale"]) {
        // Servers that have just started, Neo4j above all, would make the first measurement slower than those after it.
        Box::pin(alone("warm-up", &mut report, async |environment, _| load::warm_up(environment).await)).await;
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        if options.wants_any(&LOADED) {
            Box::pin(stores(options, round, &mut report)).await;
        }
        if options.wants("recovery") {
            Box::pin(alone("recovery", &mut report, async |environment, report| {
                upkeep::recovery(environment, options, report).await;
            }))
            .await;
        }
        if options.wants("scale") && round == 0 {
            Box::pin(alone("scale", &mut report, async |environment, report| {
                scale::scale(environment, options, report).await;
            }))
            .await;
        }
        // What is measured so far survives a run that is interrupted.
        report.write(&options.json);
    }
    report.print();
    report.write(&options.json);
    (report.json(), report.is_complete())
}

/// A measurement on stores of its own.
async fn alone(what: &str, report: &mut Report, measurement: impl AsyncFnOnce(&Environment, &mut Report)) {
    let Some(environment) = Box::pin(report.attempt(&format!("{what}: environment"), Environment::new())).await else {
        return;
    };
    report.measure(what, async |report: &mut Report| measurement(&environment, report).await).await;
    report.ended(&format!("{what}: environment"), environment);
}

/// One round on stores of its own: a part that fails is named in the report, and the next one follows.
async fn stores(options: &Options, round: usize, report: &mut Report) {
    let Some(environment) = Box::pin(report.attempt("environment", Environment::new())).await else { return };
    let loaded = async |report: &mut Report| load::measure(&environment, options, round, report).await;
    report.measure("load", loaded).await;
    if options.wants("latency") || options.wants("commits") {
        let committed = async |report: &mut Report| commits::measure(&environment, options, report).await;
        report.measure("commits", committed).await;
    }
    let versions = async |report: &mut Report| report.versions(&environment).await;
    report.measure("versions", versions).await;
    report.ended("environment", environment);
}
