//! `verify --repair`, `--plan` and `--apply`: publishes signals for chunks that differ. This process processes them itself,
//! or waits for the running service to do so.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chunk_sync_engine::ports::{EntryId, FaultClass};
use chunk_sync_engine::repair::{Action, Published, Step, publish, until_finished};
use chunk_sync_engine::verify::{Difference, Finding, Options, look_again, look_at};
use chunk_sync_engine::{Service, StartError};
use chunk_sync_wal::WalError;
use serde::Serialize;

use crate::cli::progress::Progress;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::private;
use crate::wiring::Wired;

/// The result of a repair, or of a plan.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Whether no chunk differs any more.
    pub(super) complete: bool,
    /// Whether the repair was carried out; false for a plan.
    done: bool,
    /// Chunks that differed before the repair.
    differing: u64,
    /// Those of them that no longer differ.
    repaired: u64,
    /// The action for each chunk, with its reason.
    pub(super) plan: Vec<Step>,
    /// The remaining differences.
    remaining: Vec<Difference>,
    /// Seconds from the first signal until all signals were processed and the chunks compared again.
    seconds: f64,
}

impl Outcome {
    /// The result of a plan that was not carried out.
    pub(super) fn planned(plan: Vec<Step>, differing: u64) -> Self {
        Self { complete: false, done: false, differing, repaired: 0, plan, remaining: Vec::new(), seconds: 0.0 }
    }

    fn count(&self, action: Action) -> u64 {
        self.plan.iter().filter(|step| step.action == action).count() as u64
    }

    /// The result as text.
    pub(super) fn text(&self) -> String {
        let undecided = self.plan.iter().filter(|step| matches!(step.action, Action::Undecided | Action::Absent));
        let steps: Vec<&Step> = if self.done { undecided.collect() } else { self.plan.iter().collect() };
        let mut text = String::new();
        for step in steps {
            let why = output::printable(&step.why);
            text.push_str(&format!("{} {}: {why}\n", step.id, step.action.as_str()));
        }
        let counted = |action: Action, name: &str| match self.count(action) {
            0 => String::new(),
            count => format!("; {} {name}", output::number(count)),
        };
        let undecided = counted(Action::Undecided, "undecided") + &counted(Action::Absent, "without a row");
        if !self.done {
            let (carry, delete) = (self.count(Action::Carry), output::number(self.count(Action::Delete)));
            text.push_str(&format!(
                "a repair would carry {} and delete {delete}{undecided}",
                output::count(carry, "chunk")
            ));
            return text;
        }
        for difference in &self.remaining {
            let open = |step: &Step| matches!(step.action, Action::Undecided | Action::Absent);
            if !self.plan.iter().any(|step| step.id == difference.id && open(step)) {
                let kind = difference.kind.as_str();
                text.push_str(&format!("{} {} still {kind}\n", difference.id, difference.store));
            }
        }
        text.push_str(&format!(
            "repaired {} of {} in {:.1} s{undecided}",
            output::number(self.repaired),
            output::count(self.differing, "differing chunk"),
            self.seconds
        ));
        text
    }
}

/// Interval between attempts to lock a log that another process holds.
const ASKED: Duration = Duration::from_secs(1);

/// Publishes a signal for every decided step, and waits until all are processed: by the running service, or by this process
/// if none runs or the service ends meanwhile.
/// `last` is the entry of the last signal that was published before.
pub(super) async fn carry(config: Config, wired: &Wired, steps: &[Step], last: Option<EntryId>) -> Result<(), Failure> {
    if last.is_none() && steps.iter().all(|step| step.action == Action::Undecided) {
        return Ok(());
    }
    let work = publish_and_wait(wired, steps, last);
    tokio::pin!(work);
    let mut said = false;
    loop {
        match start(&config, wired).await {
            Ok(Some(service)) => {
                let worked = tokio::select! {
                    worked = &mut work => worked,
                    ended = service.ended() => Err(stopped(ended.err())),
                };
                service.stop().await?;
                return worked;
            }
            Ok(None) => {
                if !std::mem::replace(&mut said, true) {
                    output::note("the running service carries out the repair");
                }
                if let Ok(worked) = tokio::time::timeout(ASKED, &mut work).await {
                    return worked;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Starts a service in this process; `None` if another process holds the directory or the log.
async fn start(config: &Config, wired: &Wired) -> Result<Option<Service>, Failure> {
    match wired.work("verify").await {
        Err(fault) if fault.class == FaultClass::Busy => return Ok(None),
        worked => worked?,
    }
    wired.ports.bus.prepare().await?;
    match Service::start(wired.ports.clone(), config.settings.clone()).await {
        Err(StartError::Log(WalError::Locked { .. })) => Ok(None),
        started => Ok(Some(started?)),
    }
}

fn stopped(fault: Option<chunk_sync_engine::ports::Fault>) -> Failure {
    fault.map_or_else(
        || Failure::Unable(anyhow!("the worker ended before the repair was complete; repeat the command")),
        Failure::from,
    )
}

async fn publish_and_wait(wired: &Wired, steps: &[Step], before: Option<EntryId>) -> Result<(), Failure> {
    let progress = Progress::new("repairing", steps.len() as u64);
    let published = publish(&wired.ports, &wired.publisher, steps, &|_| {}).await;
    let waited = match &published {
        Ok(Published { last, signals }) => match last.or(before) {
            Some(last) => wait(wired, last, *signals, &progress).await,
            None => Ok(()),
        },
        Err(_) => Ok(()),
    };
    progress.finish();
    published?;
    waited
}

async fn wait(wired: &Wired, last: EntryId, signals: u64, progress: &Progress) -> Result<(), Failure> {
    let show = |waiting: u64| progress.set(signals.saturating_sub(waiting), Some(signals));
    Ok(until_finished(&*wired.ports.bus, last, &show).await?)
}

/// Marks the chunks without a row as to be deleted, as the operator requested.
pub(super) fn decide_absent(steps: &mut [Step]) {
    for step in steps.iter_mut().filter(|step| step.action == Action::Absent) {
        step.action = Action::Delete;
        step.why.push_str("; --absent delete is set");
    }
}

/// Compares the chunks that differed again.
pub(super) async fn look(
    wired: &Wired,
    options: &Options,
    plan: Vec<Step>,
    started: Instant,
    findings: Vec<Finding>,
) -> Result<Outcome, Failure> {
    let differing = findings.len() as u64;
    let settled = look_again(&wired.ports, options, findings).await?;
    let remaining: Vec<Difference> = settled.findings.into_iter().flat_map(|finding| finding.differences).collect();
    Ok(Outcome {
        complete: remaining.is_empty() && settled.unsettled == 0,
        done: true,
        differing,
        repaired: settled.cleared,
        plan,
        remaining,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Writes a plan to a file, as JSON lines, and syncs it.
pub(super) fn keep(plan: &[Step], file: &Path) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(private::create_file(file)?);
        for step in plan {
            serde_json::to_writer(&mut out, step)?;
            out.write_all(b"\n")?;
        }
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    Ok(write().with_context(|| format!("cannot write the plan to {}", file.display()))?)
}

fn read(file: &Path) -> Result<Vec<Step>, Failure> {
    let unreadable = |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", file.display()));
    let lines = BufReader::new(File::open(file).map_err(unreadable)?).lines();
    let mut steps = Vec::new();
    for (line, number) in lines.zip(1..) {
        let line = line.map_err(unreadable)?;
        if !line.trim().is_empty() {
            let step = serde_json::from_str(&line).map_err(|error| {
                Failure::Usage(format!("{}:{number}: not a line of a plan: {error}", file.display()))
            })?;
            steps.push(step);
        }
    }
    Ok(steps)
}

/// Carries out a plan from a file, and compares its chunks before and after.
pub(super) async fn apply(config: Config, wired: &Wired, file: &Path, options: &Options) -> Result<Outcome, Failure> {
    let steps = read(file)?;
    let ids: Vec<_> = steps.iter().map(|step| step.id).collect();
    let findings = look_at(&wired.ports, options, &ids).await?;
    let started = Instant::now();
    carry(config, wired, &steps, None).await?;
    look(wired, options, steps, started, findings).await
}
