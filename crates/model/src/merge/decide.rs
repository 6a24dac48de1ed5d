//! What the settings of one part come to under its strategy: a pure function of the settings that took effect, in order
//! of version.

use std::collections::BTreeMap;

use crate::{ChangeVersion, Hash, Time, Writer};

use super::Strategy;
use super::effective::Candidate;
use super::text::merge_lines;

/// What a part has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Of the newest setting that is in it.
    pub(super) version: ChangeVersion,
    /// Which value; `None` where the part was removed.
    pub(super) hash: Option<Hash>,
    /// Of an embedding: the content it was made for.
    pub(super) made_for: Option<Hash>,
    /// The text, where it is nobody's own.
    pub(super) merged: Option<String>,
}

/// The settings of a part, decided.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) held: Option<Held>,
    /// Of embeddings: the one that is kept beside.
    pub(super) alternative: Option<Held>,
    /// What lost against that which is held, and when they met.
    pub(super) lost: Option<(Held, Time)>,
    /// It waits for a person.
    pub(super) open: bool,
}

/// How a conflict goes on.
enum Step {
    Source,
    Target,
    Merged(String),
    Open,
}

/// Decides on a part that is no embedding. `texts` knows the contents that are at hand.
pub(super) fn decide(
    strategy: Strategy,
    settings: &[Candidate<'_>],
    texts: &dyn Fn(Hash) -> Option<String>,
) -> Decision {
    let settings = since_decided(settings);
    match strategy {
        Strategy::TargetWins => replay(settings, |_, _| Step::Target),
        Strategy::Manual => replay(settings, |_, _| Step::Open),
        Strategy::MergeText => replay(settings, |held, source| merge_text(held, source, texts)),
        Strategy::Prefer(writer) => prefer(writer, settings).unwrap_or_else(|| replay(settings, |_, _| Step::Source)),
        Strategy::LastWriteWins | Strategy::SourceWins | Strategy::KeepBoth | Strategy::Newest => {
            replay(settings, |_, _| Step::Source)
        }
    }
}

/// Decides on an embedding: of each writer the newest counts, and one made for the content that shows comes before one
/// that is not.
pub(super) fn decide_embedding(strategy: Strategy, settings: &[Candidate<'_>], content: Option<Hash>) -> Decision {
    let settings = since_decided(settings);
    let preferred = match strategy {
        Strategy::Manual => return replay(settings, |_, _| Step::Open),
        Strategy::Prefer(writer) => prefer(writer, settings),
        _ => None,
    };
    preferred.unwrap_or_else(|| {
        let newest: BTreeMap<Writer, &Candidate<'_>> = settings.iter().map(|c| (c.version.writer, c)).collect();
        let mut held: Vec<Held> = newest.values().filter(|c| c.setting.hash.is_some()).map(|c| c.held()).collect();
        held.sort_by_key(|held| (held.made_for == content, held.version));
        let first = held.pop();
        let others = held.into_iter().filter(|other| first.as_ref().is_some_and(|first| first.hash != other.hash));
        let alternative = others.max_by_key(|other| other.version).filter(|_| strategy == Strategy::KeepBoth);
        Decision { held: first, alternative, ..Decision::default() }
    })
}

/// An operator's word ends all that was before it.
fn since_decided<'a, 'b>(settings: &'b [Candidate<'a>]) -> &'b [Candidate<'a>] {
    let decided = settings.iter().rposition(|candidate| candidate.version.writer == Writer::Operator);
    &settings[decided.unwrap_or(0)..]
}

fn replay(settings: &[Candidate<'_>], mut meet: impl FnMut(&Held, &Candidate<'_>) -> Step) -> Decision {
    let mut decision = Decision::default();
    for source in settings {
        let Some(held) = decision.held.take().filter(|held| source.conflicts_with(held)) else {
            decision = Decision { held: Some(source.held()), ..Decision::default() };
            continue;
        };
        let at = source.version.time;
        match meet(&held, source) {
            Step::Source => decision = Decision { held: Some(source.held()), lost: Some((held, at)), ..decision },
            Step::Target => decision = Decision { held: Some(held), lost: Some((source.held(), at)), ..decision },
            Step::Merged(text) => {
                let merged = Held { hash: Some(Hash::of_bytes(text.as_bytes())), merged: Some(text), ..source.held() };
                decision = Decision { held: Some(merged), lost: Some((held, at)), ..decision };
            }
            Step::Open => {
                return Decision { held: Some(held), lost: Some((source.held(), at)), open: true, ..decision };
            }
        }
    }
    decision
}

fn merge_text(held: &Held, source: &Candidate<'_>, texts: &dyn Fn(Hash) -> Option<String>) -> Step {
    let target = held.merged.clone().or_else(|| texts(held.hash?));
    let of = |hash: Option<Hash>| hash.and_then(texts);
    match (of(source.base), target, of(source.setting.hash)) {
        (Some(base), Some(target), Some(source)) => Step::Merged(merge_lines(&base, &target, &source)),
        // Without a text that both began with, everything collides.
        _ => Step::Source,
    }
}

/// The newest value of that writer, or of an operator; `None` where there is none.
fn prefer(writer: Writer, settings: &[Candidate<'_>]) -> Option<Decision> {
    let ranks = |c: &Candidate<'_>| c.version.writer == writer || c.version.writer == Writer::Operator;
    let shown = settings.iter().rfind(|candidate| ranks(candidate)).filter(|c| c.setting.hash.is_some())?;
    let met = |other: &&Candidate<'_>| {
        let (earlier, later) = if other.version < shown.version { (*other, shown) } else { (shown, *other) };
        !ranks(other) && later.conflicts_with(&earlier.held())
    };
    let lost = settings.iter().rfind(met).map(|other| (other.held(), other.version.max(shown.version).time));
    Some(Decision { held: Some(shown.held()), lost, ..Decision::default() })
}

impl Candidate<'_> {
    fn held(&self) -> Held {
        Held { version: self.version, hash: self.setting.hash, made_for: self.setting.made_for, merged: None }
    }
}
