//! `conflicts resolve` and `conflicts revert`: publish the operator's decision as an event on the bus, which the
//! service processes like any other change.

use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chunk_sync_engine::conflicts::{Choice, Decision, Undecidable, decide};
use chunk_sync_engine::ports::ConflictRecord;
use chunk_sync_model::Part;
use chunk_sync_model::merge::Unresolvable;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::{Ended, Failure, output};
use crate::wiring::Wired;

/// Maximum size of a file with a value. Every part of a chunk is smaller.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The number of the conflict in the list.
    id: u64,
    /// The new value of the part: that of the source, of the target, of their common base, or the contents of FILE (`-`
    /// is standard input). For content and summary, FILE is the text itself; for all other parts it is JSON.
    #[arg(long, value_name = "source|target|base|FILE")]
    take: Take,
    /// Decide again a conflict that is no longer open.
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Revert {
    /// The number of the conflict in the list.
    id: u64,
    /// Revert even if the conflict has been closed.
    #[arg(long)]
    again: bool,
}

/// The source of the new value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Take {
    Source,
    Target,
    Base,
    File(PathBuf),
}

impl FromStr for Take {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "source" => Self::Source,
            "target" => Self::Target,
            "base" => Self::Base,
            file => Self::File(file.into()),
        })
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Published {
    conflict: u64,
    chunk: Uuid,
    part: String,
    /// Null if the part already has this value and the conflict is not open.
    event_id: Option<Uuid>,
    /// The entry of the event on the bus.
    entry: Option<String>,
}

pub(super) async fn execute(wired: &Wired, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let entry = super::entry(wired, arguments.id).await?;
    if !entry.noted.is_open() && !arguments.again {
        let outcome = super::outcome(&entry.noted);
        let text = format!("conflict {} is not open ({outcome}); use --again to decide it again", entry.id);
        return Err(Failure::Usage(text));
    }
    let choice = match &arguments.take {
        Take::Source => Choice::Source,
        Take::Target => Choice::Target,
        Take::Base => Choice::Base,
        Take::File(file) => Choice::Value(read(file, &entry.noted.conflict.part)?),
    };
    publish(wired, &entry, &choice, json).await
}

pub(super) async fn revert(wired: &Wired, arguments: &Revert, json: bool) -> Result<Ended, Failure> {
    let entry = super::entry(wired, arguments.id).await?;
    if let (Some(closed), false) = (entry.noted.closed, arguments.again) {
        let text = format!(
            "conflict {} was closed by {} at {}; use --again to revert it nevertheless",
            entry.id, closed.by, closed.at
        );
        return Err(Failure::Usage(text));
    }
    publish(wired, &entry, &Choice::reverting(&entry.noted), json).await
}

/// Reads the value for `part` from a file or from standard input.
///
/// # Errors
/// [`Failure::Usage`] if the file cannot be read; [`Failure::Input`] if it is larger than [`MAX_FILE`], not UTF-8, or,
/// for a part other than content and summary, not JSON.
fn read(file: &Path, part: &Part) -> Result<Value, Failure> {
    let name = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let input: std::io::Result<Box<dyn Read>> = if file.as_os_str() == "-" {
        Ok(Box::new(std::io::stdin()))
    } else {
        std::fs::File::open(file).map(|file| Box::new(file) as _)
    };
    let read = input.and_then(|input| input.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    parse(&bytes, part).map_err(|error| Failure::Input(format!("{name}: {error}")))
}

fn parse(bytes: &[u8], part: &Part) -> Result<Value, String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes, the most that a part can have"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| format!("not valid UTF-8 at byte {}", error.valid_up_to()))?;
    match part {
        Part::Content | Part::Summary => Ok(text.into()),
        _ => serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}")),
    }
}

async fn publish(wired: &Wired, entry: &ConflictRecord, choice: &Choice, json: bool) -> Result<Ended, Failure> {
    let ports = &wired.ports;
    let decision = decide(&*ports.records, &wired.publisher, entry, choice, &ports.clock).await;
    let Decision { event, changes } = decision.map_err(|error| failure(entry, choice, error))?;
    let part = entry.noted.conflict.part.to_string();
    let mut published = Published { conflict: entry.id, chunk: entry.chunk, part, event_id: None, entry: None };
    // Choosing the current value still closes an open conflict; otherwise it changes nothing.
    if changes || entry.noted.is_open() {
        published.event_id = Some(event.event_id);
        published.entry = wired.publisher.publish(vec![event]).await?.first().map(ToString::to_string);
    }
    if json {
        output::json(&published)?;
    } else {
        output::line(text(&published, &taken(entry, choice)))?;
    }
    Ok(Ended::Fine)
}

fn text(published: &Published, taken: &str) -> String {
    let (part, chunk) = (output::printable(&published.part), published.chunk);
    match &published.entry {
        Some(entry) => format!(
            "{part} of chunk {chunk} becomes {taken}: published as entry {entry}; the running service or the next \
             `chunk-sync run` applies it"
        ),
        None => format!("{part} of chunk {chunk} is already {taken}: nothing to do"),
    }
}

/// A description of the chosen value, with writer and time if it is that of a side.
fn taken(entry: &ConflictRecord, choice: &Choice) -> String {
    let value = match choice {
        Choice::Source => "the value of the source",
        Choice::Target => "the value of the target",
        Choice::Base => "the value of the base",
        Choice::Value(_) => "the given value",
    };
    match choice.side(&entry.noted).and_then(|(_, side)| side.writer.zip(side.time)) {
        Some((writer, time)) => format!("{value} ({writer}, {time})"),
        None => value.to_owned(),
    }
}

/// An invalid value from a file is an input error (exit code 1); a choice that is not possible is a usage error (exit
/// code 2).
fn failure(entry: &ConflictRecord, choice: &Choice, error: Undecidable) -> Failure {
    let from_file = matches!(choice, Choice::Value(_));
    match error {
        Undecidable::Fault(fault) => fault.into(),
        Undecidable::Unresolvable(Unresolvable::Value { part, source }) if from_file => {
            Failure::Input(format!("not a valid value of {part}: {source}"))
        }
        Undecidable::Unresolvable(error @ Unresolvable::Another(_)) if from_file => Failure::Input(error.to_string()),
        Undecidable::Invalid(invalid) if from_file => Failure::Input(invalid.to_string()),
        Undecidable::Invalid(invalid) => {
            Failure::Usage(format!("conflict {}: the chunk would become invalid: {invalid}", entry.id))
        }
        other => Failure::Usage(format!("conflict {}: {other}", entry.id)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_parts_are_read_verbatim_and_all_others_as_json() {
        assert_eq!(parse(b"\"a\"\n", &Part::Content).unwrap(), Value::from("\"a\"\n"));
        assert_eq!(parse(b" \"a\"\n", &Part::Metadata("title".into())).unwrap(), Value::from("a"));
        let error = parse(b"{", &Part::Source).unwrap_err();
        assert!(error.starts_with("not valid JSON: "), "{error}");
        assert_eq!(parse(b"ab\xff", &Part::Summary).unwrap_err(), "not valid UTF-8 at byte 2");
    }

    #[test]
    fn a_value_that_names_no_side_is_a_file() {
        let taken = ["source", "target", "base", "-", "./source"].map(|text| text.parse::<Take>().unwrap());
        let [file, other] = ["-", "./source"].map(|name| Take::File(name.into()));
        assert_eq!(taken, [Take::Source, Take::Target, Take::Base, file, other]);
    }
}
