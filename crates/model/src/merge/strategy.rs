//! Strategies for conflicts: one per kind of part, and exceptions for single parts by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Part, Writer};

use super::Kind;

/// How a conflict between two writers on a part is resolved. In text the name used in the configuration:
/// `last_write_wins`, `prefer:claude`.
///
/// A strategy is applied to the settings of a part in order of version, regardless of the order of arrival. The
/// *source* is the later setting, the *target* the result of the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Strategy {
    /// The newest value is shown.
    LastWriteWins,
    /// The source's value is shown. In order of version this is the newest value, too.
    SourceWins,
    /// The target stays. A change by the target's writer, or whose base is the target, is not a conflict and replaces
    /// it.
    TargetWins,
    /// The newest value of this writer is shown. If the writer has removed its value, the newest value of any writer
    /// is.
    Prefer(Writer),
    /// For content: both texts are merged by line; where they conflict, the newer one wins.
    MergeText,
    /// For embeddings: the newest value is shown, and the newest value of another writer as its alternative.
    KeepBoth,
    /// For embeddings: only the newest value is shown.
    Newest,
    /// The target stays until an operator resolves the conflict.
    Manual,
}

/// An invalid strategy or name of a part in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// The strategy is unknown.
    #[error(
        "`{0}` is not a strategy; use one of last_write_wins, source_wins, target_wins, prefer:<writer>, \
         merge_text, keep_both, newest, manual"
    )]
    Unknown(String),
    /// The strategy does not apply to this kind of part.
    #[error("`{strategy}` is not a strategy for {}; use one of {}", kind.as_str(), kind.strategies())]
    Unfit {
        /// The strategy.
        strategy: Strategy,
        /// The kind of part.
        kind: Kind,
    },
    /// The writer in `prefer:<writer>` is unknown or cannot be preferred.
    #[error("`{0}` in `prefer:{0}` is not a writer; use one of claude, cognee, hybrid, postgres, qdrant, neo4j")]
    Writer(String),
    /// The name does not denote a part, or denotes existence, whose strategy is fixed.
    #[error(
        "`{0}` is not the name of a part; use a name such as `content`, `metadata.title`, `metadata.score_*`, \
         `graph.entities.*`"
    )]
    Name(String),
}

/// The configured strategies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategies {
    kinds: [Strategy; Kind::ALL.len()],
    /// Names of parts, optionally with a `*` at the end, each with its strategy. The first match applies.
    parts: Vec<(String, Strategy)>,
}

impl Default for Strategies {
    fn default() -> Self {
        let newest = Strategy::LastWriteWins;
        Self { kinds: [newest, Strategy::KeepBoth, newest, newest, newest], parts: Vec::new() }
    }
}

impl Strategies {
    /// Sets the strategy for a kind of parts.
    ///
    /// # Errors
    /// [`StrategyError::Unknown`] or [`StrategyError::Writer`] if `strategy` is not a strategy;
    /// [`StrategyError::Unfit`] if it does not apply to `kind`.
    pub fn with(mut self, kind: Kind, strategy: &str) -> Result<Self, StrategyError> {
        self.kinds[kind as usize] = kind.strategy(strategy)?;
        Ok(self)
    }

    /// Sets the strategy for the parts named `name`, which may end in `*`: `metadata.score_*`. If several names match a
    /// part, the one added first applies.
    ///
    /// # Errors
    /// [`StrategyError::Name`] if `name` does not denote a part or denotes existence; otherwise as [`Self::with`], for
    /// the kind of that part.
    pub fn with_part(mut self, name: &str, strategy: &str) -> Result<Self, StrategyError> {
        let strategy = kind_of_name(name)?.strategy(strategy)?;
        self.parts.push((name.to_owned(), strategy));
        Ok(self)
    }

    /// The strategy for a part; always [`Strategy::LastWriteWins`] for existence.
    #[must_use]
    pub fn of(&self, part: &Part) -> Strategy {
        if *part == Part::Existence {
            return Strategy::LastWriteWins;
        }
        let own = if self.parts.is_empty() { None } else { self.named(&part.to_string()) };
        own.unwrap_or(self.kinds[Kind::of(part) as usize])
    }

    fn named(&self, name: &str) -> Option<Strategy> {
        let fits = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
        self.parts.iter().find(|(pattern, _)| fits(pattern)).map(|(_, strategy)| *strategy)
    }
}

/// The kind of the parts denoted by a name with or without `*`. Existence is rejected: its strategy is fixed.
fn kind_of_name(name: &str) -> Result<Kind, StrategyError> {
    let unknown = || StrategyError::Name(name.to_owned());
    let Some(start) = name.strip_suffix('*') else {
        let part: Part = name.parse().map_err(|_| unknown())?;
        return if part == Part::Existence { Err(unknown()) } else { Ok(Kind::of(&part)) };
    };
    let groups = [("metadata.", Kind::Metadata), ("embeddings.", Kind::Embeddings), ("graph.", Kind::Graph)];
    groups.iter().find(|(group, _)| start.starts_with(group)).map(|(_, kind)| *kind).ok_or_else(unknown)
}

impl Kind {
    fn strategy(self, name: &str) -> Result<Strategy, StrategyError> {
        let strategy = name.parse()?;
        if self.takes(strategy) { Ok(strategy) } else { Err(StrategyError::Unfit { strategy, kind: self }) }
    }

    fn takes(self, strategy: Strategy) -> bool {
        match strategy {
            Strategy::Prefer(_) | Strategy::Manual => true,
            Strategy::LastWriteWins | Strategy::SourceWins | Strategy::TargetWins => self != Self::Embeddings,
            Strategy::MergeText => self == Self::Content,
            Strategy::KeepBoth | Strategy::Newest => self == Self::Embeddings,
        }
    }

    fn strategies(self) -> &'static str {
        match self {
            Self::Content => "last_write_wins, source_wins, target_wins, prefer:<writer>, merge_text, manual",
            Self::Embeddings => "keep_both, newest, prefer:<writer>, manual",
            _ => "last_write_wins, source_wins, target_wins, prefer:<writer>, manual",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastWriteWins => "last_write_wins",
            Self::SourceWins => "source_wins",
            Self::TargetWins => "target_wins",
            Self::Prefer(writer) => return write!(f, "prefer:{writer}"),
            Self::MergeText => "merge_text",
            Self::KeepBoth => "keep_both",
            Self::Newest => "newest",
            Self::Manual => "manual",
        })
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(name: &str) -> Result<Self, StrategyError> {
        if let Some(writer) = name.strip_prefix("prefer:") {
            let writers = Writer::ALL.iter().filter(|writer| **writer != Writer::Operator);
            let named = writers.copied().find(|known| known.as_str() == writer);
            return named.map(Self::Prefer).ok_or_else(|| StrategyError::Writer(writer.into()));
        }
        let plain = [
            Self::LastWriteWins,
            Self::SourceWins,
            Self::TargetWins,
            Self::MergeText,
            Self::KeepBoth,
            Self::Newest,
            Self::Manual,
        ];
        plain.into_iter().find(|known| known.to_string() == name).ok_or_else(|| StrategyError::Unknown(name.into()))
    }
}

impl From<Strategy> for String {
    fn from(strategy: Strategy) -> Self {
        strategy.to_string()
    }
}

impl TryFrom<String> for Strategy {
    type Error = StrategyError;

    fn try_from(name: String) -> Result<Self, StrategyError> {
        name.parse()
    }
}
