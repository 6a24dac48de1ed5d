//! `publish`: publishes JSON lines to the bus. A line that breaks a rule is refused with file, line and field; the other
//! lines are published.

use std::io::{BufRead, BufReader, Read};
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

/// Maximum number of events per publication.
const BATCH: usize = 256;

/// Maximum length of a line in bytes. An event with content and vectors of ten models is far smaller.
const MAX_LINE: u64 = 16 * 1024 * 1024;

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

/// A refused line.
#[derive(Debug, Serialize)]
struct Refusal {
    file: String,
    line: u64,
    field: String,
    error: String,
}

impl Refusal {
    /// On one line: a field may be a key of the data with a line feed in it.
    fn text(&self) -> String {
        output::printable(&format!("{}:{}: {}: {}", self.file, self.line, self.field, self.error))
    }
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

/// Reads and parses the input on a separate thread: reading blocks, and parsing takes a core.
struct Lines {
    input: Box<dyn BufRead + Send>,
    name: String,
    publisher: Publisher,
    line: u64,
    bytes: u64,
}

impl Lines {
    fn read_all(mut self, sender: &mpsc::Sender<Batch>) -> std::io::Result<()> {
        let mut ended = false;
        while !ended {
            let mut read = Batch::default();
            while !ended && read.events.len() + read.refusals.len() < BATCH {
                match self.next()? {
                    Some(Ok(Some(event))) => read.events.push(event),
                    Some(Ok(None)) => {}
                    Some(Err(refusal)) => read.refusals.push(refusal),
                    None => ended = true,
                }
            }
            (read.bytes, read.lines) = (self.bytes, self.line);
            if sender.blocking_send(read).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next line: an event, nothing if it is blank, or why it is refused. `None` at the end.
    #[allow(clippy::type_complexity, reason = "each layer is one of the three outcomes")]
    fn next(&mut self) -> std::io::Result<Option<Result<Option<Event>, Refusal>>> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += read;
        if read == MAX_LINE && bytes.last() != Some(&b'\n') {
            self.bytes += self.skip_line()?;
            return Ok(Some(Err(self.refusal("event", format!("longer than {MAX_LINE} bytes")))));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(Some(Err(self.refusal("event", "is not UTF-8".to_owned()))));
        };
        let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        if text.trim().is_empty() {
            return Ok(Some(Ok(None)));
        }
        let parsed = self.publisher.parse(text, jiff::Timestamp::now().into());
        Ok(Some(parsed.map(Some).map_err(|invalid| self.refusal(&invalid.field, invalid.message))))
    }

    fn refusal(&self, field: &str, error: String) -> Refusal {
        Refusal { file: self.name.clone(), line: self.line, field: field.to_owned(), error }
    }

    /// Skips to the end of the line. Returns the number of bytes skipped.
    fn skip_line(&mut self) -> std::io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.input.fill_buf()?;
            let (end, length) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (true, at + 1),
                None => (buffer.is_empty(), buffer.len()),
            };
            self.input.consume(length);
            skipped += length as u64;
            if end {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    use chunk_sync_engine::ports::Bus;
    use chunk_sync_model::Limits;
    use chunk_sync_testkit::memory::MemoryBus;
    use chunk_sync_testkit::states::{bare, state};

    use super::*;

    /// A publisher to a bus with room for `room` events.
    fn publisher(room: usize) -> (MemoryBus, Publisher) {
        let bus = MemoryBus::new(room);
        (bus.clone(), Publisher::new(Arc::new(bus), Arc::new(Limits::default())))
    }

    /// Publishes `lines` lines, every third of which is blank.
    async fn run(publisher: &Publisher, lines: usize, patience: Duration) -> (Result<(), Fault>, Summary) {
        let line = |i: usize| match i % 3 {
            0 => "\n".to_owned(),
            _ => format!("{}\n", Event::of_chunk(state(&bare(&i.to_string())).chunk.clone()).to_json()),
        };
        let input = Box::new(Cursor::new((1..=lines).map(line).collect::<String>()));
        let (sender, reads) = mpsc::channel(4);
        let lines = Lines { input, name: "file".into(), publisher: publisher.clone(), line: 0, bytes: 0 };
        let parsing = std::thread::spawn(move || lines.read_all(&sender));
        let mut summary = Summary::default();
        let published = publish((publisher, None), reads, None, patience, &mut summary).await;
        parsing.join().unwrap().unwrap();
        (published, summary)
    }

    #[tokio::test]
    async fn an_interrupted_publication_reports_the_line_to_continue_with() {
        let (bus, publisher) = publisher(1);
        let (published, summary) = run(&publisher, 1000, Duration::ZERO).await;
        // A bus with room accepts a whole batch.
        assert_eq!((summary.published, bus.depth().await.unwrap().unread), (256, 256));
        assert_eq!(summary.lines, 383, "256 events and 127 blank lines");
        let failure = stuck(published.unwrap_err(), &summary, "file");
        assert_eq!(failure.code(), 3);
        let text = failure.text();
        assert!(text.contains("lines 1 to 383 of file are on the bus; continue with line 384"), "{text}");
    }

    #[tokio::test]
    async fn a_bus_that_recovers_in_time_receives_the_rest() {
        let (bus, publisher) = publisher(1);
        let said = Arc::new(Mutex::new(Vec::new()));
        let events = || vec![Event::of_chunk(state(&bare("one")).chunk.clone())];
        publisher.publish(events()).await.unwrap();
        let waiting = tokio::spawn({
            let (publisher, said, events) = (publisher.clone(), Arc::clone(&said), events());
            async move {
                let note = move |text: &str| said.lock().unwrap().push(text.to_owned());
                persist(&publisher, events, Duration::from_secs(60), &note).await
            }
        });
        while said.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let read = bus.read(1, Duration::from_secs(1)).await.unwrap();
        bus.acknowledge(&[read[0].id]).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(said.lock().unwrap().len(), 1, "one note");
    }
}
