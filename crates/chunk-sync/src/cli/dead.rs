//! `dead`: the dead letters, entries that could not be processed. This file selects and reads them; the submodules
//! list, show, retry and drop them.

mod act;
mod list;
mod show;
#[cfg(test)]
mod tests;

use chunk_sync_engine::ports::{EntryId, FaultClass};
use chunk_sync_model::Time;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Ended, Failure};
use crate::config::Config;
use crate::letters::{self, Dead};
use crate::wiring::{self, Purpose, Wired};

/// Dead letters per page.
const PAGE: usize = 200;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List the dead letters, oldest first.
    List(list::Arguments),
    /// Show one dead letter: its original fields, and why it was dead-lettered.
    Show {
        /// The id of the dead letter in the list.
        id: EntryId,
    },
    /// Publish dead letters again, after their cause is fixed. Each is dropped only after its event is on the bus.
    Retry(act::Retry),
    /// Delete dead letters permanently.
    Drop(act::Drop),
}

#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(super) struct Filter {
    /// Only dead letters on this chunk.
    #[arg(long, value_name = "UUID")]
    chunk: Option<Uuid>,
    /// Only dead letters with an error of this class: unavailable, timeout, busy, rejected, denied, misconfigured,
    /// corrupt, disk.
    #[arg(long = "type", value_name = "CLASS", value_parser = class)]
    class: Option<&'static str>,
    /// Only dead letters from this source or writer: claude, cognee, hybrid, postgres, operator.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only dead letters with an error in this field or in a field inside it: chunk, chunk.content, targets.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Only dead letters from this time or later: 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Only dead letters that a newer change has superseded: publishing them again would change nothing.
    #[arg(long)]
    superseded: bool,
}

/// The dead letters that a command applies to.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// The ids of the dead letters in the list.
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<EntryId>,
    /// All dead letters; with filters, all that match.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(super) async fn execute(config: &Config, action: Action, json: bool) -> Result<Ended, Failure> {
    if let Action::Retry(act::Retry { which, .. }) | Action::Drop(act::Drop { which, .. }) = &action {
        which.check()?;
    }
    let wired = wiring::open(config, Purpose::Beside, "dead").await?;
    match action {
        Action::List(arguments) => list::execute(&wired, &arguments, json).await,
        Action::Show { id } => show::execute(&one(&wired, id).await?, json),
        Action::Retry(arguments) => act::retry(&wired, &arguments, json).await,
        Action::Drop(arguments) => act::drop(&wired, &arguments, json).await,
    }
}

fn class(name: &str) -> Result<&'static str, String> {
    let names = FaultClass::ALL.map(FaultClass::as_str);
    let unknown = || format!("unknown class; use one of {}", names.join(", "));
    names.into_iter().find(|class| *class == name).ok_or_else(unknown)
}

impl Filter {
    /// Whether the dead letter matches every filter that is set.
    fn matches(&self, dead: &Dead) -> bool {
        let (letter, reasons) = (&dead.letter, &dead.reasons);
        let has = |name: &str, wanted: &String| letter.text(name).is_some_and(|text| text == wanted.as_str());
        let concerns = |wanted: &String| reasons.field.as_deref().is_some_and(|field| is_inside(field, wanted));
        self.chunk.is_none_or(|chunk| letter.chunk() == Some(chunk))
            && self.class.is_none_or(|class| reasons.class == class)
            && self.source.as_ref().is_none_or(|source| has("source", source) || has("writer", source))
            && self.field.as_ref().is_none_or(concerns)
            && self.since.is_none_or(|since| reasons.at.is_some_and(|at| at >= since))
            && (!self.superseded || dead.superseded)
    }
}

/// Whether `field` is `outer` or inside it: `chunk.id` and `chunk[2]` are inside `chunk`.
fn is_inside(field: &str, outer: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl Selection {
    fn check(&self) -> Result<(), Failure> {
        let filtered = self.filter != Filter::default();
        if !self.ids.is_empty() && filtered {
            return Err(Failure::Usage("ids and filters cannot be combined; use one of them".to_owned()));
        }
        if self.ids.is_empty() && !filtered && !self.all {
            let text = "no dead letters selected; name their ids (see `chunk-sync dead list`), a filter such as --type, \
                or --all";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(())
    }
}

/// The dead letters in order of id, page by page.
struct Pages<'a> {
    wired: &'a Wired,
    after: Option<EntryId>,
    /// How many dead letters remain to be read. Bounds the walk to those that existed at its start: a retried event
    /// that fails again meanwhile must not be retried once more.
    left: u64,
}

impl<'a> Pages<'a> {
    async fn of(wired: &'a Wired, after: Option<EntryId>) -> Result<Self, Failure> {
        Ok(Self { wired, after, left: wired.ports.bus.depth().await?.dead })
    }

    /// The next page; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Dead>>, Failure> {
        let limit = usize::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        let letters = if limit == 0 { Vec::new() } else { self.wired.ports.bus.dead(self.after, limit).await? };
        let Some(last) = letters.last() else { return Ok(None) };
        self.after = Some(last.id);
        self.left = self.left.saturating_sub(letters.len() as u64);
        Ok(Some(letters::read(&self.wired.ports, &self.wired.publisher, letters).await?))
    }
}

/// Fetches the dead letter with this id.
///
/// # Errors
/// [`Failure::Usage`] if there is none; [`Failure::Fault`] if the bus or the system of record fails.
async fn one(wired: &Wired, id: EntryId) -> Result<Dead, Failure> {
    let found = letters::find(&wired.ports, id).await?;
    let mut read = letters::read(&wired.ports, &wired.publisher, Vec::from_iter(found)).await?;
    read.pop().ok_or_else(|| unknown(&[id]))
}

fn unknown(ids: &[EntryId]) -> Failure {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Failure::Usage(format!("no dead letter has the id {}; see `chunk-sync dead list` for valid ids", ids.join(", ")))
}
