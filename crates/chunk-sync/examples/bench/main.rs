//! Measures the service on real servers, each figure beside a limit or a peer of the same run, and writes the figures as
//! JSON. `cargo xtask bench` builds the program, starts the servers and runs this.
//!
//! Every round measures the service and its peers one after the other, in another order each time; a figure is the
//! median over the rounds. After each measurement `verify` must find no difference. A measurement that fails is named in
//! the report with its reason, and the others follow.
//!
//! `--only bus,load,updates,latency,commits,verify,recovery` selects measurements, `--rates 20,200` the commits per second
//! of the latencies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod bus;
mod commits;
mod environment;
mod load;
mod report;
mod upkeep;
mod visible;

use std::path::PathBuf;
use std::process::ExitCode;

use environment::Environment;
use report::Report;

/// What is measured, and how much of it.
pub(crate) struct Options {
    only: Vec<String>,
    json: PathBuf,
    pub(crate) rounds: usize,
    /// Chunks loaded and updated.
    pub(crate) chunks: usize,
    /// Entries that are pending when the process is killed.
    pub(crate) pending: usize,
    /// Seconds at each rate of commits.
    pub(crate) seconds: u64,
    /// Rates of the latency measurement, commits per second.
    pub(crate) rates: Vec<u64>,
}

impl Options {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let quick = words.iter().any(|word| word == "--quick");
        let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1).cloned());
        let only = after("--only").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
        let json = after("--json").map_or_else(|| PathBuf::from("target/bench.json"), PathBuf::from);
        let number = |name: &str, default: usize| after(name).map_or(default, |text| text.parse().expect(name));
        let listed = after("--rates").map(|list| list.split(',').map(|rate| rate.parse().expect("--rates")).collect());
        let usual = if quick { vec![20, 200] } else { vec![20, 100, 200, 500, 1_000] };
        Self {
            only,
            json,
            rounds: number("--rounds", 3),
            chunks: number("--chunks", if quick { 2_000 } else { 40_000 }),
            pending: number("--pending", if quick { 4_000 } else { 100_000 }),
            seconds: number("--seconds", if quick { 5 } else { 60 }) as u64,
            rates: listed.unwrap_or(usual),
        }
    }

    pub(crate) fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == group)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::read();
    let mut report = Report::default();
    if options.wants("bus") {
        report.measure("bus", async |report: &mut Report| bus::measure(report)).await;
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        if ["load", "updates", "commits", "latency", "verify"].iter().any(|group| options.wants(group)) {
            Box::pin(stores(&options, round, &mut report)).await;
        }
        if options.wants("recovery")
            && let Some(environment) = Box::pin(report.attempt("recovery: environment", Environment::new())).await
        {
            let measured = async |report: &mut Report| upkeep::recovery(&environment, &options, report).await;
            report.measure("recovery", measured).await;
            report.ended("recovery: environment", environment);
        }
        // What is measured so far survives a run that is interrupted.
        report.write(&options.json);
    }
    report.print();
    report.write(&options.json);
    if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
