//! `dead retry` and `dead drop`: publish the event of a dead letter again, or delete the dead letter.

use std::io::{BufRead, IsTerminal};

use chunk_sync_engine::dead;
use chunk_sync_model::Target;
use clap::{Args, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::{Pages, Selection, unknown};
use crate::cli::{Ended, Failure, output};
use crate::letters::{self, Dead};
use crate::wiring::Wired;

/// Up to this number of published events, the text output lists each; it always shows the total.
const LISTED: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
The original event is published with its retry_count increased by one. A crash between publishing an event and \
dropping its dead letter leaves both, which is harmless: the version of the event makes a second delivery a no-op. \
Dead letters whose event is still invalid are kept.

Exit codes: 0 all were published; 1 some are kept; 2 an id is unknown, and nothing was done; 3 the bus cannot be \
reached.")]
pub(in crate::cli) struct Retry {
    #[command(flatten)]
    pub(super) which: Selection,
    /// Publish for this store only.
    #[arg(long, value_name = "STORE")]
    target: Option<To>,
    /// Show what would be published, without publishing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A dropped dead letter cannot be restored, and its change is never made. `--superseded` drops only those whose event \
would change nothing.

Exit codes: 0 they were dropped; 1 the operator did not confirm; 2 an id is unknown, and nothing was done; 3 the bus \
cannot be reached.")]
pub(in crate::cli) struct Drop {
    #[command(flatten)]
    pub(super) which: Selection,
    /// Show what would be dropped, without dropping.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation of --all.
    #[arg(long)]
    yes: bool,
}

/// The only store that an event is published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    Postgres,
    Qdrant,
    Neo4j,
}

/// The result of a retry as JSON.
#[derive(Debug, Default, Serialize)]
struct Retried {
    dry_run: bool,
    published: Vec<Published>,
    refused: Vec<Refusal>,
}

#[derive(Debug, Serialize)]
struct Published {
    id: String,
    chunk: Uuid,
    event_id: Uuid,
    /// The new entry on the bus; null in a dry run.
    entry: Option<String>,
}

/// A dead letter that is kept, because its event is invalid.
#[derive(Debug, Serialize)]
struct Refusal {
    id: String,
    field: String,
    error: String,
}

/// The result of a drop as JSON.
#[derive(Debug, Serialize)]
struct Dropped {
    dry_run: bool,
    dropped: Vec<String>,
}

pub(super) async fn retry(wired: &Wired, arguments: &Retry, json: bool) -> Result<Ended, Failure> {
    if let Some(target) = arguments.target {
        wired.must_have(target.into())?;
    }
    let mut retried = Retried { dry_run: arguments.dry_run, ..Retried::default() };
    let mut letters = Letters::of(wired, &arguments.which).await?;
    let mut done = Ok(());
    while let Some(page) = letters.next().await? {
        for letter in page {
            done = retry_one(wired, arguments, letter, &mut retried).await;
            if done.is_err() {
                break;
            }
        }
        if done.is_err() {
            break;
        }
    }
    // If the bus failed midway, the events published before are on it, so they are reported first.
    print_retried(&retried, json)?;
    done?;
    Ok(if retried.refused.is_empty() { Ended::Fine } else { Ended::Found })
}

async fn retry_one(wired: &Wired, arguments: &Retry, dead: Dead, retried: &mut Retried) -> Result<(), Failure> {
    let id = dead.letter.id;
    let event = match dead.event {
        Ok(event) => dead::again(event, arguments.target.map(Target::from)),
        Err(invalid) => {
            output::note(output::printable(&format!("dead letter {id}: {}: {}", invalid.field, invalid.message)));
            retried.refused.push(Refusal { id: id.to_string(), field: invalid.field, error: invalid.message });
            return Ok(());
        }
    };
    let (chunk, event_id) = (event.chunk_id(), event.event_id);
    let entry = match arguments.dry_run {
        true => None,
        false => dead::retry(&*wired.ports.bus, &wired.publisher, id, event).await?,
    };
    let entry = entry.map(|entry| entry.to_string());
    retried.published.push(Published { id: id.to_string(), chunk, event_id, entry });
    Ok(())
}

fn print_retried(retried: &Retried, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(retried);
    }
    if retried.dry_run || retried.published.len() <= LISTED {
        for published in &retried.published {
            let entry = published.entry.as_ref().map_or_else(String::new, |entry| format!(" as entry {entry}"));
            let Published { id, chunk, event_id, .. } = published;
            output::line(format_args!("{id}: event {event_id} of chunk {chunk}{entry}"))?;
        }
    }
    let verb = if retried.dry_run { "would publish" } else { "published" };
    let stay = match retried.refused.len() as u64 {
        0 => String::new(),
        refused => format!("; {} kept as invalid", output::count(refused, "dead letter")),
    };
    let published = output::count(retried.published.len() as u64, "event");
    output::line(format_args!("{verb} {published} again{stay}"))
}

pub(super) async fn drop(wired: &Wired, arguments: &Drop, json: bool) -> Result<Ended, Failure> {
    if arguments.which.all && !arguments.dry_run && !arguments.yes && !confirmed(wired).await? {
        output::note("nothing was dropped");
        return Ok(Ended::Found);
    }
    let mut dropped = Dropped { dry_run: arguments.dry_run, dropped: Vec::new() };
    let mut letters = Letters::of(wired, &arguments.which).await?;
    while let Some(page) = letters.next().await? {
        for dead in page {
            if arguments.dry_run || wired.ports.bus.drop_dead(dead.letter.id).await? {
                dropped.dropped.push(dead.letter.id.to_string());
            }
        }
    }
    if json {
        output::json(&dropped)?;
        return Ok(Ended::Fine);
    }
    if arguments.dry_run {
        dropped.dropped.iter().try_for_each(output::line)?;
    }
    let verb = if arguments.dry_run { "would drop" } else { "dropped" };
    output::line(format_args!("{verb} {}", output::count(dropped.dropped.len() as u64, "dead letter")))?;
    Ok(Ended::Fine)
}

/// Asks the operator for confirmation. Returns true without asking if standard input is not a terminal.
async fn confirmed(wired: &Wired) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let total = output::count(wired.ports.bus.depth().await?.dead, "dead letter");
    output::note(format_args!("{total}; drop all selected ones permanently? Type yes: "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| {
        Failure::Unable(
            anyhow::Error::new(error)
                .context("cannot read the confirmation from standard input; use --yes to drop without it"),
        )
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The selected dead letters, in pages.
enum Letters<'a> {
    Named(Option<Vec<Dead>>),
    Filtered(Pages<'a>, &'a Selection),
}

impl<'a> Letters<'a> {
    /// Selects the dead letters. Looks up all ids first, so that an unknown id fails the command before it changes
    /// anything.
    ///
    /// # Errors
    /// [`Failure::Usage`] if an id is unknown; [`Failure::Fault`] if the bus or the system of record fails.
    async fn of(wired: &'a Wired, which: &'a Selection) -> Result<Self, Failure> {
        if which.ids.is_empty() {
            return Ok(Self::Filtered(Pages::of(wired, None).await?, which));
        }
        let mut ids = which.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match letters::find(&wired.ports, id).await? {
                Some(letter) => found.push(letter),
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            return Err(unknown(&missing));
        }
        Ok(Self::Named(Some(letters::read(&wired.ports, &wired.publisher, found).await?)))
    }

    async fn next(&mut self) -> Result<Option<Vec<Dead>>, Failure> {
        match self {
            Self::Named(letters) => Ok(letters.take()),
            Self::Filtered(pages, which) => {
                let page = pages.next().await?;
                Ok(page.map(|page| page.into_iter().filter(|dead| which.filter.matches(dead)).collect()))
            }
        }
    }
}

impl From<To> for Target {
    fn from(to: To) -> Self {
        match to {
            To::Postgres => Self::Postgres,
            To::Qdrant => Self::Qdrant,
            To::Neo4j => Self::Neo4j,
        }
    }
}
