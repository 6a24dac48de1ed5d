//! `conflicts resolve` and `revert`: a decision becomes an operator's event on the bus, and takes the way of every change.

use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chunk_sync_engine::conflicts::{Choice, Decision, Undecidable, decide};
use chunk_sync_engine::ports::Recorded;
use chunk_sync_model::Part;
use chunk_sync_model::merge::Unresolvable;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::{Ended, Failure, output};
use crate::wiring::Wired;

/// The greatest file that is read: no part of a chunk is as long.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Its number in the list.
    id: u64,
    /// The part is to be what the source said, what the target held, what both began with (base), or what FILE has: `-` is
    /// standard input. For content and summary FILE is the text itself, for everything else JSON.
    #[arg(long, value_name = "source|target|base|FILE")]
    take: Take,
    /// Decide anew what is settled already.
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Revert {
    /// Its number in the list.
    id: u64,
    /// Also where an operator has decided already.
    #[arg(long)]
    again: bool,
}

/// Where the value is taken from.
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
    /// Nothing where the part is that already.
    event_id: Option<Uuid>,
    /// Where the event stands on the bus.
    entry: Option<String>,
}

pub(super) async fn execute(wired: &Wired, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let entry = super::entry(wired, arguments.id).await?;
    if !entry.met.is_open() && !arguments.again {
        let text = format!("conflict {} is settled: {}; --again decides it anew", entry.id, super::outcome(&entry.met));
        return Err(Failure::Usage(text));
    }
    let choice = match &arguments.take {
        Take::Source => Choice::Source,
        Take::Target => Choice::Target,
        Take::Base => Choice::Base,
        Take::File(file) => Choice::Value(read(file, &entry.met.conflict.part)?),
    };
    publish(wired, &entry, &choice, json).await
}

pub(super) async fn revert(wired: &Wired, arguments: &Revert, json: bool) -> Result<Ended, Failure> {
    let entry = super::entry(wired, arguments.id).await?;
    if let (Some(closed), false) = (entry.met.closed, arguments.again) {
        let text = format!("conflict {} was closed by {} at {}; --again reverts it", entry.id, closed.by, closed.at);
        return Err(Failure::Usage(text));
    }
    publish(wired, &entry, &Choice::reverting(&entry.met), json).await
}

/// The value that a file has for that part.
fn read(file: &Path, part: &Part) -> Result<Value, Failure> {
    let name = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let input: std::io::Result<Box<dyn Read>> = if file.as_os_str() == "-" {
        Ok(Box::new(std::io::stdin()))
    } else {
        std::fs::File::open(file).map(|file| Box::new(file) as _)
    };
    let read = input.and_then(|input| input.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::Usage(format!("{name} cannot be read: {error}")))?;
    parse(&bytes, part).map_err(|error| Failure::Input(format!("{name}: {error}")))
}

fn parse(bytes: &[u8], part: &Part) -> Result<Value, String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8 from byte {} on", error.valid_up_to()))?;
    match part {
        Part::Content | Part::Summary => Ok(text.into()),
        _ => serde_json::from_str(text).map_err(|error| format!("no JSON: {error}")),
    }
}

async fn publish(wired: &Wired, entry: &Recorded, choice: &Choice, json: bool) -> Result<Ended, Failure> {
    let decision = decide(&*wired.ports.records, &wired.publisher, entry, choice).await;
    let Decision { event, changes } = decision.map_err(|error| failure(entry, choice, error))?;
    let part = entry.met.conflict.part.to_string();
    let mut published = Published { conflict: entry.id, chunk: entry.chunk, part, event_id: None, entry: None };
    // To decide for what shows ends an open conflict; one that is settled is just as it should be.
    if changes || entry.met.is_open() {
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
            "{part} of chunk {chunk} becomes {taken}: published as entry {entry}; the running service applies it, or the next \
             `chunk-sync run`"
        ),
        None => format!("{part} of chunk {chunk} is {taken} already: nothing to do"),
    }
}

/// What was chosen, in words.
fn taken(entry: &Recorded, choice: &Choice) -> String {
    let said = match choice {
        Choice::Source => "what the source said",
        Choice::Target => "what was held",
        Choice::Base => "what it began with",
        Choice::Value(_) => "what was handed in",
    };
    match choice.side(&entry.met).and_then(|(_, side)| side.writer.zip(side.time)) {
        Some((writer, time)) => format!("{said} ({writer}, {time})"),
        None => said.to_owned(),
    }
}

/// What the file has may be wrong; what cannot be had otherwise was asked for wrongly.
fn failure(entry: &Recorded, choice: &Choice, error: Undecidable) -> Failure {
    let handed_in = matches!(choice, Choice::Value(_));
    match error {
        Undecidable::Fault(fault) => fault.into(),
        Undecidable::Unresolvable(Unresolvable::Value { part, source }) if handed_in => {
            Failure::Input(format!("no value of {part}: {source}"))
        }
        Undecidable::Unresolvable(error @ Unresolvable::Another(_)) if handed_in => Failure::Input(error.to_string()),
        Undecidable::Invalid(invalid) if handed_in => Failure::Input(invalid.to_string()),
        Undecidable::Invalid(invalid) => {
            Failure::Usage(format!("conflict {}: the chunk would keep no rule: {invalid}", entry.id))
        }
        other => Failure::Usage(format!("conflict {}: {other}", entry.id)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_is_taken_as_it_is_and_everything_else_as_json() {
        assert_eq!(parse(b"\"a\"\n", &Part::Content).unwrap(), Value::from("\"a\"\n"));
        assert_eq!(parse(b" \"a\"\n", &Part::Metadata("title".into())).unwrap(), Value::from("a"));
        let error = parse(b"{", &Part::Source).unwrap_err();
        assert!(error.starts_with("no JSON: "), "{error}");
        assert_eq!(parse(b"ab\xff", &Part::Summary).unwrap_err(), "is not UTF-8 from byte 2 on");
    }

    #[test]
    fn a_file_is_whatever_is_no_side() {
        let taken = ["source", "target", "base", "-", "./source"].map(|text| text.parse::<Take>().unwrap());
        let [file, other] = ["-", "./source"].map(|name| Take::File(name.into()));
        assert_eq!(taken, [Take::Source, Take::Target, Take::Base, file, other]);
    }
}
