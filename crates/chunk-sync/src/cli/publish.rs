//! `publish`: publishes JSON lines to the bus. A line that breaks a rule is refused with file, line and field; the other
//! lines are published.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chunk_sync_engine::ports::{Fault, FaultClass, Records};
use chunk_sync_engine::{Publisher, repeated};
use chunk_sync_model::Event;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Purpose};

mod lines;
#[cfg(test)]
mod tests;

use lines::{Lines, Refusal};

/// Maximum number of events per publication.
const BATCH: usize = 256;

/// Maximum number of refused lines in the JSON result; all are counted.
const LISTED: usize = 10_000;

/// How long a batch waits for the answer which of its events are repeated.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// First and longest pause before a retry; the pause doubles in between.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

#[derive(Debug, Args)]
#[command(after_help = "\
If the bus becomes unavailable, the command retries for --wait seconds, then reports the last line that is on the bus. \
Publishing lines twice does no harm: an event that was already processed changes nothing.

Exit codes: 0 all lines are on the bus; 1 lines were refused; 2 the file cannot be opened; 3 the bus cannot be reached.")]
pub(super) struct Arguments {
    /// File of JSON lines, one event or bare chunk per line. Default, or `-`: standard input.
    file: Option<PathBuf>,
    /// How long to retry if the bus does not accept events, since it last accepted some.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

/// The result.
#[derive(Debug, Default, Serialize)]
struct Summary {
    published: u64,
    /// All lines up to this one are on the bus, except refused ones.
    lines: u64,
    refused: u64,
    /// Of the published events: those that were merged before and change nothing, as far as that is known.
    repeated: u64,
    refusals: Vec<Refusal>,
}

/// Lines that were read and validated together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    refusals: Vec<Refusal>,
    /// Bytes of the file up to the end of this batch.
    bytes: u64,
    lines: u64,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let file = arguments.file.as_deref().filter(|file| file.as_os_str() != "-");
    let name = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    let (input, size) = open(file).map_err(|error| Failure::Usage(format!("cannot open {name}: {error}")))?;
    let wired = wiring::open(config, Purpose::Publish, "publish").await?;
    let (sender, reads) = mpsc::channel(4);
    let parsing = std::thread::spawn({
        let lines = Lines { input, name: name.clone(), publisher: wired.publisher.clone(), line: 0, bytes: 0 };
        move || lines.read_all(&sender)
    });
    let mut summary = Summary::default();
    let patience = Duration::from_secs(arguments.wait);
    let published = publish((&wired.publisher, Some(&*wired.ports.records)), reads, size, patience, &mut summary).await;
    say(&summary, &name, json)?;
    published.map_err(|fault| stuck(fault, &summary, &name))?;
    let read = parsing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    read.with_context(|| format!("cannot read {name} to its end"))?;
    Ok(if summary.refused == 0 { Ended::Fine } else { Ended::Found })
}

/// Opens the input. Returns its size in bytes too, if it is a regular file.
fn open(file: Option<&Path>) -> std::io::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    let Some(path) = file else {
        return Ok((Box::new(BufReader::new(std::io::stdin())), None));
    };
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?;
    if size.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    Ok((Box::new(BufReader::with_capacity(1 << 18, file)), size.is_file().then_some(size.len())))
}

async fn publish(
    (publisher, records): (&Publisher, Option<&dyn Records>),
    mut reads: mpsc::Receiver<Batch>,
    size: Option<u64>,
    patience: Duration,
    summary: &mut Summary,
) -> Result<(), Fault> {
    let progress = Progress::new("publishing", size.unwrap_or(0).min(1));
    let result = loop {
        let Some(read) = reads.recv().await else { break Ok(()) };
        for refusal in read.refusals {
            progress.note(&refusal.text());
            summary.refused += 1;
            if summary.refusals.len() < LISTED {
                summary.refusals.push(refusal);
            }
        }
        let count = read.events.len() as u64;
        summary.repeated += repeats(records, &read.events).await;
        if let Err(fault) = persist(publisher, read.events, patience, &|text| progress.note(text)).await {
            break Err(fault);
        }
        summary.published += count;
        summary.lines = read.lines;
        let seen = summary.published + summary.refused;
        progress.set(seen, size.map(|size| estimate(seen, read.bytes, size)));
    };
    progress.finish();
    result
}

/// How many of the events change nothing. While the system of record does not answer, that is unknown and not counted.
async fn repeats(records: Option<&dyn Records>, events: &[Event]) -> u64 {
    let Some(records) = records else { return 0 };
    match tokio::time::timeout(KNOWN_WITHIN, repeated(records, events)).await {
        Ok(Ok(repeated)) => repeated.into_iter().filter(|repeated| *repeated).count() as u64,
        _ => 0,
    }
}

/// Publishes events, and retries for `patience` while the bus is unavailable or full. Events that reached the bus before a
/// connection broke are on it twice after a retry.
async fn persist(
    publisher: &Publisher,
    events: Vec<Event>,
    patience: Duration,
    note: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    let mut pause = PAUSES.0;
    loop {
        let fault = match publisher.publish(events.clone()).await {
            Ok(_) => return Ok(()),
            Err(fault) => fault,
        };
        let passes = matches!(fault.class, FaultClass::Unavailable | FaultClass::Timeout | FaultClass::Busy);
        let left = deadline.saturating_duration_since(Instant::now());
        if !passes || left.is_zero() {
            return Err(fault);
        }
        if pause == PAUSES.0 {
            note(&output::printable(&format!("{fault}; retrying for {} s", left.as_secs().max(1))));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (2 * pause).min(PAUSES.1);
    }
}

/// Adds to the fault which lines are on the bus.
fn stuck(fault: Fault, summary: &Summary, name: &str) -> Failure {
    let lines = summary.lines;
    let reached = match lines {
        0 => format!("nothing of {name} is known to be on the bus"),
        1 => format!("line 1 of {name} is on the bus"),
        lines => format!("lines 1 to {lines} of {name} are on the bus"),
    };
    let text = format!(
        "{}; {reached}; continue with line {}, or publish the whole file again: publishing a line twice does no harm",
        fault.message,
        lines + 1
    );
    Failure::Fault(Fault { message: text, ..fault })
}

/// Estimates the number of lines of a file of `size` bytes from the lines read so far.
fn estimate(seen: u64, bytes: u64, size: u64) -> u64 {
    let estimate = u128::from(seen) * u128::from(size) / u128::from(bytes.max(1));
    u64::try_from(estimate).unwrap_or(seen)
}

fn say(summary: &Summary, name: &str, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(summary);
    }
    let refused = match summary.refused {
        0 => String::new(),
        refused => format!(", refused {}", output::count(refused, "line")),
    };
    let repeated = match summary.repeated {
        0 => String::new(),
        repeated => format!(", {repeated} of them repeated"),
    };
    let published = output::count(summary.published, "event");
    output::line(format_args!("published {published} from {}{repeated}{refused}", output::printable(name)))
}
