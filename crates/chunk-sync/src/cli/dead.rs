//! `dead`: entries that could not succeed. Which of them are meant here; what is shown of them and done to them below.

mod act;
mod list;
mod show;
#[cfg(test)]
mod tests;

use chunk_sync_engine::dead::{Reasons, superseded};
use chunk_sync_engine::ports::{EntryId, FaultClass, Letter};
use chunk_sync_model::{Event, Invalid, Time};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Ended, Failure};
use crate::config::Config;
use crate::wiring::{self, Wired};

/// Letters read at once.
const PAGE: usize = 200;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// What lies there, the oldest first.
    List(list::Arguments),
    /// One of them: its fields as they came, and why it was set aside.
    Show {
        /// Its id in the list.
        id: EntryId,
    },
    /// Publish them again, once what was wrong is mended; each is dropped only when its event is on the bus.
    Retry(act::Retry),
    /// Remove them for good.
    Drop(act::Drop),
}

#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(super) struct Filter {
    /// Only those on this chunk.
    #[arg(long, value_name = "UUID")]
    chunk: Option<Uuid>,
    /// Only those with an error of this class: unavailable, timeout, busy, rejected, denied, misconfigured, corrupt, disk.
    #[arg(long = "type", value_name = "CLASS", value_parser = class)]
    class: Option<&'static str>,
    /// Only those of this source or writer: claude, cognee, hybrid, postgres, operator.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those in which this field is to blame, or one inside it: chunk, chunk.content, targets.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Only those set aside then or later: 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Only those of which nothing would come any more, for something newer came since.
    #[arg(long)]
    superseded: bool,
}

/// Which letters something is done to.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Their ids in the list.
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<EntryId>,
    /// All of them; with filters, all that these leave.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

/// A letter, read.
struct Dead {
    letter: Letter,
    reasons: Reasons,
    /// What it would be if it were published again, or why it could not.
    event: Result<Event, Invalid>,
    superseded: bool,
}

pub(super) async fn execute(config: &Config, action: Action, json: bool) -> Result<Ended, Failure> {
    if let Action::Retry(act::Retry { which, .. }) | Action::Drop(act::Drop { which, .. }) = &action {
        which.check()?;
    }
    let wired = wiring::open(config, "dead").await?;
    match action {
        Action::List(arguments) => list::execute(&wired, &arguments, json).await,
        Action::Show { id } => show::execute(&one(&wired, id).await?, json),
        Action::Retry(arguments) => act::retry(&wired, &arguments, json).await,
        Action::Drop(arguments) => act::drop(&wired, &arguments, json).await,
    }
}

fn class(name: &str) -> Result<&'static str, String> {
    let names = FaultClass::ALL.map(FaultClass::as_str);
    names.into_iter().find(|class| *class == name).ok_or_else(|| format!("one of {}", names.join(", ")))
}

impl Filter {
    /// Whether it is one of those that are meant.
    fn fits(&self, dead: &Dead) -> bool {
        let (letter, reasons) = (&dead.letter, &dead.reasons);
        let says = |name: &str, wanted: &String| letter.text(name).is_some_and(|text| text == wanted.as_str());
        let blames = |wanted: &String| reasons.field.as_deref().is_some_and(|field| is_inside(field, wanted));
        self.chunk.is_none_or(|chunk| letter.chunk() == Some(chunk))
            && self.class.is_none_or(|class| reasons.class == class)
            && self.source.as_ref().is_none_or(|source| says("source", source) || says("writer", source))
            && self.field.as_ref().is_none_or(blames)
            && self.since.is_none_or(|since| reasons.at.is_some_and(|at| at >= since))
            && (!self.superseded || dead.superseded)
    }
}

/// Whether `field` is `outer` or a field of it: `chunk.id` and `chunk[2]` are of `chunk`.
fn is_inside(field: &str, outer: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl Selection {
    fn check(&self) -> Result<(), Failure> {
        let filtered = self.filter != Filter::default();
        if !self.ids.is_empty() && filtered {
            return Err(Failure::Usage("either ids or filters".to_owned()));
        }
        if self.ids.is_empty() && !filtered && !self.all {
            let text =
                "which ones? Name their ids (`chunk-sync dead list` has them), a filter such as --type, or --all";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(())
    }
}

/// The letters in their order, a page at a time.
struct Pages<'a> {
    wired: &'a Wired,
    after: Option<EntryId>,
    /// Letters that are still looked at: what is set aside meanwhile is not meant, least of all what was just retried.
    left: u64,
}

impl<'a> Pages<'a> {
    async fn of(wired: &'a Wired, after: Option<EntryId>) -> Result<Self, Failure> {
        Ok(Self { wired, after, left: wired.ports.bus.depth().await?.dead })
    }

    /// The next of them; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Dead>>, Failure> {
        let limit = usize::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        let letters = if limit == 0 { Vec::new() } else { self.wired.ports.bus.dead(self.after, limit).await? };
        let Some(last) = letters.last() else { return Ok(None) };
        self.after = Some(last.id);
        self.left = self.left.saturating_sub(letters.len() as u64);
        read(self.wired, letters).await.map(Some)
    }
}

/// Reads letters: their reasons, their events, and which of them are superseded.
async fn read(wired: &Wired, letters: Vec<Letter>) -> Result<Vec<Dead>, Failure> {
    let now = jiff::Timestamp::now().into();
    let mut read: Vec<Dead> = letters
        .into_iter()
        .map(|letter| {
            let event = wired.publisher.read(&letter.original(), now);
            Dead { reasons: letter.reasons(), event, superseded: false, letter }
        })
        .collect();
    let (places, events): (Vec<usize>, Vec<_>) = read
        .iter()
        .enumerate()
        .filter_map(|(i, dead)| Some((i, (dead.event.as_ref().ok()?.clone(), dead.reasons.missing.clone()))))
        .unzip();
    for (i, superseded) in places.into_iter().zip(superseded(&*wired.ports.records, &events).await?) {
        read[i].superseded = superseded;
    }
    Ok(read)
}

/// The letter with that id.
async fn one(wired: &Wired, id: EntryId) -> Result<Dead, Failure> {
    let found = find(wired, id).await?;
    let mut read = read(wired, Vec::from_iter(found)).await?;
    read.pop().ok_or_else(|| unknown(&[id]))
}

async fn find(wired: &Wired, id: EntryId) -> Result<Option<Letter>, Failure> {
    let before = match (id.millis, id.sequence) {
        (0, 0) => None,
        // No bus counts as far within a millisecond.
        (millis, 0) => Some(EntryId { millis: millis - 1, sequence: (1 << 20) - 1 }),
        (millis, sequence) => Some(EntryId { millis, sequence: sequence - 1 }),
    };
    Ok(wired.ports.bus.dead(before, 1).await?.pop().filter(|letter| letter.id == id))
}

fn unknown(ids: &[EntryId]) -> Failure {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Failure::Usage(format!("no dead letter has the id {}: `chunk-sync dead list` has those there are", ids.join(", ")))
}
