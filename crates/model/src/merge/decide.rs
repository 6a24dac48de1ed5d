//! Applies a strategy to the effective settings of one part, in order of version. Pure.

use std::collections::BTreeMap;

use crate::{Hash, Time, Writer};

use super::Strategy;
use super::effective::{Candidate, Current};
use super::text::merge_lines;

/// The result of applying a strategy to a part.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) current: Option<Current>,
    /// For an embedding: the value kept as its alternative.
    pub(super) alternative: Option<Current>,
    /// The value that lost against the current one, and the time of the later of the two.
    pub(super) lost: Option<(Current, Time)>,
    /// Whether a conflict waits for an operator.
    pub(super) open: bool,
}

/// How a single conflict is resolved.
enum Step {
    Source,
    Target,
    Merged(String),
    Open,
}

/// Applies `strategy` to a part other than an embedding. `texts` returns a content by its hash, if it is available.
pub(super) fn decide(
    strategy: Strategy,
    settings: &[Candidate<'_>],
    texts: &dyn Fn(Hash) -> Option<String>,
) -> Decision {
    let settings = since_resolved(settings);
    match strategy {
        Strategy::TargetWins => replay(settings, |_, _| Step::Target),
        Strategy::Manual => replay(settings, |_, _| Step::Open),
        Strategy::MergeText => replay(settings, |current, source| merge_text(current, source, texts)),
        Strategy::Prefer(writer) => prefer(writer, settings).unwrap_or_else(|| replay(settings, |_, _| Step::Source)),
        Strategy::LastWriteWins | Strategy::SourceWins | Strategy::KeepBoth | Strategy::Newest => {
            replay(settings, |_, _| Step::Source)
        }
    }
}

/// Applies `strategy` to an embedding. Of each writer only the newest value counts; a value computed from the shown
/// content (`content`) is preferred to one that is not, then the newer to the older.
pub(super) fn decide_embedding(strategy: Strategy, settings: &[Candidate<'_>], content: Option<Hash>) -> Decision {
    let settings = since_resolved(settings);
    let preferred = match strategy {
        Strategy::Manual => return replay(settings, |_, _| Step::Open),
        Strategy::Prefer(writer) => prefer(writer, settings),
        _ => None,
    };
    preferred.unwrap_or_else(|| {
        let newest: BTreeMap<Writer, &Candidate<'_>> = settings.iter().map(|c| (c.version.writer, c)).collect();
        let mut values: Vec<Current> =
            newest.values().filter(|c| c.setting.shown().is_some()).map(|c| c.current()).collect();
        values.sort_by_key(|value| (value.made_for == content, value.version));
        let first = values.pop();
        let others = values.into_iter().filter(|other| first.as_ref().is_some_and(|first| first.hash != other.hash));
        let alternative = others.max_by_key(|other| other.version).filter(|_| strategy == Strategy::KeepBoth);
        Decision { current: first, alternative, ..Decision::default() }
    })
}

/// The settings from the last resolution by an operator on; it supersedes all earlier ones.
fn since_resolved<'a, 'b>(settings: &'b [Candidate<'a>]) -> &'b [Candidate<'a>] {
    let resolved = settings.iter().rposition(|candidate| candidate.version.writer == Writer::Operator);
    &settings[resolved.unwrap_or(0)..]
}

/// Applies the settings in order; `resolve` decides between the current value and a setting in conflict with it.
fn replay(settings: &[Candidate<'_>], mut resolve: impl FnMut(&Current, &Candidate<'_>) -> Step) -> Decision {
    let mut decision = Decision::default();
    for source in settings {
        let Some(target) = decision.current.take().filter(|current| source.conflicts_with(current)) else {
            decision = Decision { current: Some(source.current()), ..Decision::default() };
            continue;
        };
        let at = source.version.time;
        match resolve(&target, source) {
            Step::Source => {
                decision = Decision { current: Some(source.current()), lost: Some((target, at)), ..decision };
            }
            Step::Target => {
                decision = Decision { current: Some(target), lost: Some((source.current(), at)), ..decision };
            }
            Step::Merged(text) => {
                let hash = Some(Hash::of_bytes(text.as_bytes()));
                let merged = Current { hash, set: hash, merged: Some(text), ..source.current() };
                decision = Decision { current: Some(merged), lost: Some((target, at)), ..decision };
            }
            Step::Open => {
                let lost = Some((source.current(), at));
                return Decision { current: Some(target), lost, open: true, ..decision };
            }
        }
    }
    decision
}

fn merge_text(current: &Current, source: &Candidate<'_>, texts: &dyn Fn(Hash) -> Option<String>) -> Step {
    let target = current.merged.clone().or_else(|| texts(current.hash?));
    let of = |hash: Option<Hash>| hash.and_then(texts);
    match (of(source.base), target, of(source.setting.shown())) {
        (Some(base), Some(target), Some(source)) => Step::Merged(merge_lines(&base, &target, &source)),
        // Without a common base every line conflicts.
        _ => Step::Source,
    }
}

/// The newest value of `writer` or of an operator; `None` if there is none.
fn prefer(writer: Writer, settings: &[Candidate<'_>]) -> Option<Decision> {
    let ranks = |c: &Candidate<'_>| c.version.writer == writer || c.version.writer == Writer::Operator;
    let shown = settings.iter().rfind(|candidate| ranks(candidate)).filter(|c| c.setting.hash.is_some())?;
    let conflicts = |other: &&Candidate<'_>| {
        let (earlier, later) = if other.version < shown.version { (*other, shown) } else { (shown, *other) };
        !ranks(other) && later.conflicts_with(&earlier.current())
    };
    let lost = settings.iter().rfind(conflicts).map(|other| (other.current(), other.version.max(shown.version).time));
    Some(Decision { current: Some(shown.current()), lost, ..Decision::default() })
}

impl Candidate<'_> {
    fn current(&self) -> Current {
        Current {
            version: self.version,
            hash: self.setting.shown(),
            set: self.setting.hash,
            made_for: self.setting.made_for,
            merged: None,
        }
    }
}
