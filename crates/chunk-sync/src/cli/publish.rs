//! `publish`: JSON lines → bus. What keeps no rule is refused with file, line and field; the rest goes on.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use chunk_sync_engine::Publisher;
use chunk_sync_model::Event;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

/// Events put on the bus at once.
const BATCH: usize = 256;

/// The longest line that is read: an event with content and vectors of ten models stays far below.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// Refused lines that are listed as JSON; all are counted.
const LISTED: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// JSON lines, one event or bare chunk each; standard input if none or `-`.
    file: Option<PathBuf>,
}

/// A line that was not published.
#[derive(Debug, Serialize)]
struct Refusal {
    file: String,
    line: u64,
    field: String,
    error: String,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Summary {
    published: u64,
    refused: u64,
    refusals: Vec<Refusal>,
}

/// Some lines, read and checked.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    refusals: Vec<Refusal>,
    /// How far into the file they reach.
    bytes: u64,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let file = arguments.file.as_deref().filter(|file| file.as_os_str() != "-");
    let name = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    let (input, size) = open(file).map_err(|error| Failure::Usage(format!("{name} cannot be opened: {error}")))?;
    let wired = wiring::open(config, "publish").await?;
    let (sender, reads) = mpsc::channel(4);
    let parsing = std::thread::spawn({
        let lines = Lines { input, name: name.clone(), publisher: wired.publisher.clone(), line: 0, bytes: 0 };
        move || lines.read_all(&sender)
    });
    let mut summary = Summary::default();
    let published = publish(&wired.publisher, reads, size, &mut summary).await;
    say(&summary, &name, json)?;
    published?;
    let read = parsing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    read.with_context(|| format!("{name} cannot be read to its end"))?;
    Ok(if summary.refused == 0 { Ended::Fine } else { Ended::Found })
}

/// The lines, and how many bytes they have where that is known.
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
    publisher: &Publisher,
    mut reads: mpsc::Receiver<Batch>,
    size: Option<u64>,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let progress = Progress::new("publishing", size.unwrap_or(0).min(1));
    let result = loop {
        let Some(read) = reads.recv().await else { break Ok(()) };
        for refusal in read.refusals {
            progress.note(&format!("{}:{}: {}: {}", refusal.file, refusal.line, refusal.field, refusal.error));
            summary.refused += 1;
            if summary.refusals.len() < LISTED {
                summary.refusals.push(refusal);
            }
        }
        let count = read.events.len() as u64;
        if let Err(fault) = publisher.publish(read.events).await {
            break Err(Failure::Fault(fault));
        }
        summary.published += count;
        let seen = summary.published + summary.refused;
        progress.set(seen, size.map(|size| estimate(seen, read.bytes, size)));
    };
    progress.finish();
    result
}

/// How many lines a file of `size` bytes will turn out to have, by those seen so far.
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
    output::line(format_args!("published {} from {name}{refused}", output::count(summary.published, "event")))
}

/// The lines of the input, on a thread of their own: reading blocks, and parsing takes a core.
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
            read.bytes = self.bytes;
            if sender.blocking_send(read).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next line: an event, nothing where it is blank, or why it is refused; `None` at the end.
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

    /// Reads past the end of the line without keeping it.
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
