//! `wal replay`: applies the pending operations exactly as the next start would, and nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chunk_sync_engine::{Recovered, Service};
use chunk_sync_model::{Event, Limits, Target};
use chunk_sync_wal::{Entry, pending};
use serde::Serialize;
use uuid::Uuid;

use super::held_by;
use crate::cli::{Ended, Failure, output};
use crate::config::Config;
use crate::telemetry;
use crate::wiring::{self, Purpose};

/// Maximum number of operations in the text output, which also shows the total.
const LISTED: usize = 50;

/// The pending operations as JSON.
#[derive(Serialize)]
struct Planned {
    dry_run: bool,
    pending: usize,
    operations: Vec<Operation>,
}

#[derive(Serialize)]
struct Operation {
    operation_id: String,
    chunk: Option<Uuid>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    source: Option<&'static str>,
    targets: Vec<Target>,
    /// How many starts have begun to replay it.
    replays: u32,
    /// Why it is not a valid event under the current limits.
    unreadable: Option<String>,
}

/// The result of the replay as JSON.
#[derive(Serialize)]
struct Replayed {
    replayed: u64,
    /// Left to the bus, which still has their entries or has finished them.
    on_bus: u64,
    given_up: u64,
    unreadable: u64,
    damaged: u64,
    torn: bool,
    dead_letters: u64,
    seconds: f64,
}

pub(super) async fn list(config: &Config, json: bool) -> Result<Ended, Failure> {
    let (dir, limits) = (config.settings.wal.dir.clone(), config.settings.limits.clone());
    let read = tokio::task::spawn_blocking(move || read(&dir, &limits, if json { usize::MAX } else { LISTED }));
    let planned = read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    if json {
        output::json(&planned)?;
        return Ok(Ended::Fine);
    }
    for operation in &planned.operations {
        output::line(text(operation))?;
    }
    let left = planned.pending - planned.operations.len();
    let more = if left > 0 { format!(" ({} not listed)", output::number(left as u64)) } else { String::new() };
    output::line(format_args!("would replay {}{more}", output::count(planned.pending as u64, "operation")))?;
    Ok(Ended::Fine)
}

fn read(dir: &Path, limits: &Limits, most: usize) -> Result<Planned, Failure> {
    if !dir.is_dir() {
        return Ok(Planned { dry_run: true, pending: 0, operations: Vec::new() });
    }
    let entries = pending(dir).map_err(anyhow::Error::from)?;
    let count = entries.len();
    let operations = entries.take(most).map(|entry| entry.map(|entry| Operation::of(&entry, limits)));
    let operations = operations.collect::<Result<_, _>>().map_err(anyhow::Error::from)?;
    Ok(Planned { dry_run: true, pending: count, operations })
}

impl Operation {
    fn of(entry: &Entry, limits: &Limits) -> Self {
        let event = Event::from_json(&entry.operation, limits);
        let read = event.as_ref().ok();
        Self {
            operation_id: entry.operation_id.clone(),
            chunk: read.map(Event::chunk_id),
            kind: read.map(|event| event.kind.as_str()),
            source: read.map(|event| event.source.as_str()),
            targets: read.map(|event| event.targets.clone()).unwrap_or_default(),
            replays: entry.replays,
            unreadable: event.as_ref().err().map(ToString::to_string),
        }
    }
}

fn text(operation: &Operation) -> String {
    let again = match operation.replays {
        0 => String::new(),
        replays => format!(", replayed {} before", output::count(u64::from(replays), "time")),
    };
    let what = match (&operation.unreadable, operation.kind, operation.chunk) {
        (None, Some(kind), Some(chunk)) => format!("{kind} of chunk {chunk} by {}", operation.source.unwrap_or("-")),
        (unreadable, ..) => {
            format!("not a valid event under the current limits: {}", unreadable.as_deref().unwrap_or("-"))
        }
    };
    output::printable(&format!("{}: {what}{again}", operation.operation_id))
}

pub(super) async fn execute(config: Config, json: bool) -> Result<Ended, Failure> {
    let dir = &config.settings.wal.dir;
    if let Some(holder) = held_by(dir)? {
        return Err(Failure::Unable(anyhow!(
            "the log in {} is in use by {holder}, which replays it itself; stop that process to replay it here",
            dir.display()
        )));
    }
    telemetry::init_logs(&config.log);
    let began = Instant::now();
    let wired = wiring::open(&config, Purpose::Run, "wal replay").await?;
    let recovered = Service::replay(wired.ports.clone(), config.settings).await?;
    let dead_letters = wired.ports.bus.depth().await?.dead;
    print(&recovered, dead_letters, began.elapsed(), json)?;
    Ok(Ended::Fine)
}

fn print(recovered: &Recovered, dead_letters: u64, took: Duration, json: bool) -> Result<(), Failure> {
    let &Recovered { replayed, on_bus, given_up, unreadable, damaged, torn } = recovered;
    let seconds = took.as_secs_f64();
    if json {
        return output::json(&Replayed {
            replayed,
            on_bus,
            given_up,
            unreadable,
            damaged,
            torn,
            dead_letters,
            seconds,
        });
    }
    let mut text = format!("replayed {} in {seconds:.1} s", output::count(replayed, "operation"));
    for (count, what) in [
        (on_bus, "left to the bus, which still delivers them"),
        (given_up, "dead-lettered because no start could complete them"),
        (unreadable, "ended with an error: not valid events under the current limits"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {} {what}", output::number(count)));
        }
    }
    if damaged > 0 {
        text.push_str(&format!("; {} set aside", output::count(damaged, "damaged line")));
    }
    if torn {
        text.push_str("; torn last line truncated");
    }
    if dead_letters > 0 {
        text.push_str(&format!("; {} on the bus", output::count(dead_letters, "dead letter")));
    }
    output::line(text)
}
