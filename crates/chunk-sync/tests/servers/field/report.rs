//! What the service reports about itself during each trouble, and how fast it carries good events meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::installation::{Installation, ask};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The least length of a window of throughput: longer than a trouble, and what is caught up after it, lasts.
const WINDOW: Duration = Duration::from_secs(30);

/// Reports of one trouble that are printed, and characters of each.
const PRINTED: (usize, usize) = (4, 160);

/// What was reported during each trouble, by its name, and how often each happened.
#[derive(Default)]
pub(crate) struct Reports(BTreeMap<String, (u32, BTreeSet<String>)>);

impl Reports {
    /// Collects what `/readyz` answers while `during` runs.
    pub(crate) async fn collect(&mut self, trouble: String, on: &Installation, during: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let looking: JoinHandle<BTreeSet<String>> = tokio::spawn(look(on.http, stopped));
        during.await;
        stop.send_replace(true);
        let (count, reports) = self.0.entry(trouble).or_default();
        *count += 1;
        reports.extend(looking.await.unwrap());
    }

    /// One line per trouble, and below it what was reported.
    pub(crate) fn print(&self, into: &mut String) {
        for (name, (count, reports)) in &self.0 {
            let _ = writeln!(into, "{count:>5} x {name}");
            for report in reports.iter().take(PRINTED.0) {
                let _ = writeln!(into, "          {}", report.chars().take(PRINTED.1).collect::<String>());
            }
            if reports.len() > PRINTED.0 {
                let _ = writeln!(into, "          and {} more", reports.len() - PRINTED.0);
            }
        }
    }
}

async fn look(port: u16, stopped: watch::Receiver<bool>) -> BTreeSet<String> {
    let mut reports = BTreeSet::new();
    while !*stopped.borrow() {
        reports.extend(reported(port).await);
        tokio::time::sleep(PAUSE).await;
    }
    reports
}

/// The reasons in the answer of `/readyz`, with their numbers left out; that there is none, if there is none.
async fn reported(port: u16) -> Vec<String> {
    let Some(answer) = ask(port, "/readyz").await else { return vec!["no answer".to_owned()] };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let waiting = list("waiting_for").into_iter().map(|reason| format!("waiting for {reason}"));
    let failing = list("failing").into_iter().map(|store| format!("{} failing: {}", store["target"], store["failing"]));
    waiting.chain(failing).map(|text| text.replace(|c: char| c.is_ascii_digit(), "#")).collect()
}

/// The throughput of good events in windows that follow each other.
pub(crate) struct Windows {
    began: (Instant, u64),
    /// The lowest, and the number of windows.
    pub(crate) lowest: f64,
    pub(crate) count: usize,
}

impl Windows {
    pub(crate) async fn begin(on: &Installation) -> Self {
        Self { began: (Instant::now(), carried(on).await), lowest: f64::INFINITY, count: 0 }
    }

    /// Ends the window if it is long enough, and begins the next one.
    pub(crate) async fn look(&mut self, on: &Installation) {
        let elapsed = self.began.0.elapsed();
        if elapsed < WINDOW {
            return;
        }
        let carried = carried(on).await;
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = carried.saturating_sub(self.began.1) as f64 / elapsed.as_secs_f64();
        (self.lowest, self.count) = (self.lowest.min(rate), self.count + 1);
        self.began = (Instant::now(), carried);
    }
}

/// The entries that were finished and are no dead letters.
async fn carried(on: &Installation) -> u64 {
    on.acknowledged().await.saturating_sub(on.environment.dead_count().await)
}
