//! The figures: medians over the rounds, beside their peers, as a table and as JSON.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::environment::Environment;

/// All figures of a run, by name.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<String, Figure>,
    versions: BTreeMap<&'static str, String>,
    /// What could not be measured, and why.
    failures: Vec<(String, String)>,
}

#[derive(Default)]
struct Figure {
    unit: &'static str,
    values: Vec<f64>,
    /// The figure that this one is compared with.
    beside: Option<String>,
}

impl Report {
    /// Runs a measurement, and notes why it failed if it does.
    pub(crate) async fn measure(&mut self, what: &str, measurement: impl AsyncFnOnce(&mut Self)) {
        let ended = AssertUnwindSafe(measurement(self)).catch_unwind().await;
        self.note(what, ended);
    }

    /// The result of a preparation; `None` if it failed, which is noted.
    pub(crate) async fn attempt<T>(&mut self, what: &str, preparation: impl Future<Output = T>) -> Option<T> {
        let ended = AssertUnwindSafe(preparation).catch_unwind().await;
        self.note(what, ended)
    }

    /// Removes what a measurement used.
    pub(crate) fn ended<T>(&mut self, what: &str, used: T) {
        let ended = catch_unwind(AssertUnwindSafe(|| drop(used)));
        self.note(what, ended);
    }

    fn note<T>(&mut self, what: &str, ended: std::thread::Result<T>) -> Option<T> {
        let panic = match ended {
            Ok(ended) => return Some(ended),
            Err(panic) => panic,
        };
        let text = panic.downcast_ref::<String>().cloned();
        let reason = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        self.failures.push((what.to_owned(), reason.unwrap_or_else(|| "it panicked".to_owned())));
        None
    }

    /// Adds one round's value.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        eprintln!("  {name}: {value:.1} {unit}");
        let figure = self.figures.entry(name.to_owned()).or_default();
        figure.unit = unit;
        figure.values.push(value);
    }

    /// Adds one round's value that is reported as a ratio to another figure.
    pub(crate) fn add_beside(&mut self, name: &str, unit: &'static str, value: f64, beside: &str) {
        self.add(name, unit, value);
        self.figures.entry(name.to_owned()).or_default().beside = Some(beside.to_owned());
    }

    /// Asks the servers for their versions, once.
    pub(crate) async fn versions(&mut self, environment: &Environment) {
        if self.versions.is_empty() {
            self.versions = environment.versions().await;
        }
    }

    /// Whether nothing failed.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    fn ratio(&self, figure: &Figure) -> Option<f64> {
        let peer = self.figures.get(figure.beside.as_ref()?)?;
        Some(median(&figure.values) / median(&peer.values))
    }

    pub(crate) fn print(&self) {
        for (name, figure) in &self.figures {
            let beside = match (self.ratio(figure), &figure.beside) {
                (Some(ratio), Some(peer)) => format!("  {:.0} % of {peer}", 100.0 * ratio),
                _ => String::new(),
            };
            println!("{name:44} {:10.1} {}{beside}", median(&figure.values), figure.unit);
        }
        for (what, reason) in &self.failures {
            println!("FAILED {what}: {reason}");
        }
    }

    /// The report, with the commit, the machine and the versions of the servers.
    pub(crate) fn json(&self) -> Value {
        let figures = self.figures.iter().map(|(name, figure)| {
            json!({
                "name": name, "unit": figure.unit, "median": median(&figure.values), "values": figure.values,
                "beside": figure.beside, "ratio": self.ratio(figure),
            })
        });
        json!({
            "commit": output("git", &["rev-parse", "HEAD"]),
            "changed": !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty(),
            "machine": {
                "kernel": output("uname", &["-sr"]), "cpus": std::thread::available_parallelism().map_or(0, usize::from),
                "cpu": first_line_of("/proc/cpuinfo", "model name"), "memory": first_line_of("/proc/meminfo", "MemTotal"),
                "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            },
            "versions": self.versions,
            "figures": figures.collect::<Vec<Value>>(),
            "failures": self.failures.iter().map(|(what, reason)| json!({"what": what, "reason": reason}))
                .collect::<Vec<Value>>(),
        })
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, serde_json::to_string_pretty(&self.json()).unwrap()).unwrap();
        println!("written to {}", path.display());
    }
}

/// Prints each figure of a report beside the one that a stored report has.
pub(crate) fn compare(report: &Value, stored: &Value) {
    let commit = |report: &Value| report["commit"].as_str().unwrap_or("an unknown commit").to_owned();
    println!("{} beside {}", commit(report), commit(stored));
    let figures = |report: &Value| report["figures"].as_array().cloned().unwrap_or_default();
    let before = figures(stored);
    for figure in figures(report) {
        let other = before.iter().find(|other| other["name"] == figure["name"]);
        if let (Some(now), Some(then)) = (figure["median"].as_f64(), other.and_then(|other| other["median"].as_f64())) {
            let (name, unit) =
                (figure["name"].as_str().unwrap_or_default(), figure["unit"].as_str().unwrap_or_default());
            println!("{name:44} {now:10.1} {unit}, was {then:.1} ({:+.0} %)", 100.0 * (now / then - 1.0));
        }
    }
}

/// The median of the values; the mean of the two in the middle of an even number.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which that share of the values lies, interpolated.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn first_line_of(path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
