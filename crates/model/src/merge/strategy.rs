//! How conflicts end: one strategy for each kind of part, others for single parts by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Part, Writer};

use super::Kind;

/// What decides where two writers disagree on a part. Written as in the configuration: `last_write_wins`,
/// `prefer:claude`.
///
/// Each is applied to a part's settings in the order of their versions, whatever the order in which they arrived: the
/// *source* is the later setting, the *target* what the earlier ones came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Strategy {
    /// The newest shows.
    LastWriteWins,
    /// The source's shows: in order of version that is the newest, too.
    SourceWins,
    /// What was held stays; a writer that has said what is held can change it.
    TargetWins,
    /// While this writer has a value no other's shows; once it has removed its own, the newest word counts.
    Prefer(Writer),
    /// Of content: both texts are merged line by line; where they collide the newer wins.
    MergeText,
    /// Of embeddings: the newest shows, the newest of another writer as its alternative.
    KeepBoth,
    /// Of embeddings: the newest shows alone.
    Newest,
    /// What was held stays until a person decides.
    Manual,
}

/// A strategy that is none, or none for that kind of part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// No such strategy.
    #[error(
        "`{0}` is no strategy: give one of last_write_wins, source_wins, target_wins, prefer:<writer>, merge_text, keep_both, newest, manual"
    )]
    Unknown(String),
    /// Not for this kind of part.
    #[error("`{strategy}` is no strategy for {}: give one of {}", kind.as_str(), kind.strategies())]
    Unfit {
        /// The strategy.
        strategy: Strategy,
        /// The kind of part.
        kind: Kind,
    },
    /// No such writer.
    #[error("`prefer:{0}` names no writer: give one of claude, cognee, hybrid, postgres, qdrant, neo4j")]
    Writer(String),
    /// No part goes by such a name.
    #[error(
        "`{0}` names no part: give one such as `content`, `metadata.title`, `metadata.score_*`, `graph.entities.*`"
    )]
    Name(String),
}

/// The strategies in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategies {
    kinds: [Strategy; Kind::ALL.len()],
    /// Names of parts, perhaps with a `*` at the end, each with its strategy; the first that fits counts.
    parts: Vec<(String, Strategy)>,
}

impl Default for Strategies {
    fn default() -> Self {
        let newest = Strategy::LastWriteWins;
        Self { kinds: [newest, Strategy::KeepBoth, newest, newest, newest], parts: Vec::new() }
    }
}

impl Strategies {
    /// With another strategy for a kind of parts.
    ///
    /// # Errors
    /// Where `strategy` is none, or none for that kind.
    pub fn with(mut self, kind: Kind, strategy: &str) -> Result<Self, StrategyError> {
        self.kinds[kind as usize] = kind.strategy(strategy)?;
        Ok(self)
    }

    /// With another strategy for the parts of that name, which may end in `*`: `metadata.score_*`. Of several that fit a
    /// part the first given counts.
    ///
    /// # Errors
    /// Where `name` names no part, or `strategy` is none for that kind of part.
    pub fn with_part(mut self, name: &str, strategy: &str) -> Result<Self, StrategyError> {
        let strategy = kind_of_name(name)?.strategy(strategy)?;
        self.parts.push((name.to_owned(), strategy));
        Ok(self)
    }

    /// The strategy for a part. Of existence the newest word counts, always.
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

/// The kind of the parts that a name with or without `*` stands for. Existence is nobody's to choose.
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
