//! A recorded conflict: the four sides of a three-way merge, the strategy and the outcome.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Hash, Part, Time, Writer};

use super::Strategy;

/// A conflict on one part. The source changed the part while the current value was neither the source's base nor its
/// new value, or changed it after another writer had deleted the chunk.
///
/// In JSON `part` is the part's name on the wire, hashes are hexadecimal, times RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The part in conflict.
    #[serde(with = "name")]
    pub part: Part,
    /// The kind of the part.
    pub kind: Kind,
    /// The strategy applied to the part.
    pub strategy: Strategy,
    /// The outcome.
    pub outcome: Outcome,
    /// The value that the source started from.
    pub base: Side,
    /// The value that the source set.
    pub source: Side,
    /// The current value before the change.
    pub target: Side,
    /// The value shown after the change.
    pub result: Side,
}

/// One side of a conflict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The writer that set the value; `None` if no writer set it.
    pub writer: Option<Writer>,
    /// When it was set.
    pub time: Option<Time>,
    /// The hash of the value; `None` if the part is absent.
    pub hash: Option<Hash>,
    /// The value itself, if it is available.
    pub value: Option<Value>,
}

/// Kinds of parts. The order matters: a change with several conflicts is classified by the first kind (see
/// [`auto_type`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `content`
    Content,
    /// Dense and sparse vectors.
    Embeddings,
    /// A key of `metadata`.
    Metadata,
    /// Node id, entities, relationships.
    Graph,
    /// All other parts, including existence.
    Other,
}

/// The outcome of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The source's value is shown.
    SourceKept,
    /// The source's value is not shown: the previous value is, or a value that the previous one had suppressed.
    TargetKept,
    /// Both values are shown, one as the alternative of the other.
    BothKept,
    /// A text merged from both is shown.
    Merged,
    /// The conflict waits for an operator; the earlier value is shown until then.
    Open,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 5] = [Self::Content, Self::Embeddings, Self::Metadata, Self::Graph, Self::Other];

    /// The kind of a part.
    #[must_use]
    pub fn of(part: &Part) -> Self {
        match part {
            Part::Content => Self::Content,
            Part::Dense(_) | Part::Sparse => Self::Embeddings,
            Part::Metadata(_) => Self::Metadata,
            Part::NodeId | Part::Entity(_) | Part::Relationship(..) => Self::Graph,
            _ => Self::Other,
        }
    }

    /// The name in reports and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Embeddings => "embeddings",
            Self::Metadata => "metadata",
            Self::Graph => "graph",
            Self::Other => "other",
        }
    }
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 5] = [Self::SourceKept, Self::TargetKept, Self::BothKept, Self::Merged, Self::Open];

    /// The name in reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceKept => "source_kept",
            Self::TargetKept => "target_kept",
            Self::BothKept => "both_kept",
            Self::Merged => "merged",
            Self::Open => "open",
        }
    }
}

impl Conflict {
    /// The conflict as JSON. A value that several sides share is written once, because values are most of the size.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut slim = self.clone();
        let mut hashes: Vec<Hash> = Vec::new();
        for side in slim.sides_mut() {
            match side.hash {
                Some(hash) if hashes.contains(&hash) => side.value = None,
                Some(hash) if side.value.is_some() => hashes.push(hash),
                _ => {}
            }
        }
        // Serialisation cannot fail: all map keys are strings and all floats are finite.
        serde_json::to_string(&slim).unwrap_or_default()
    }

    /// Reads the output of [`to_json`](Self::to_json) and restores the shared values.
    ///
    /// # Errors
    /// If `json` is not valid JSON, lacks a field, or has an unknown part, kind, strategy or outcome.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        let mut conflict: Self = serde_json::from_str(json)?;
        let values: Vec<(Option<Hash>, Value)> =
            conflict.sides_mut().into_iter().filter_map(|side| Some((side.hash, side.value.clone()?))).collect();
        for side in conflict.sides_mut().into_iter().filter(|side| side.hash.is_some() && side.value.is_none()) {
            side.value = values.iter().find(|(hash, _)| *hash == side.hash).map(|(_, value)| value.clone());
        }
        Ok(conflict)
    }

    fn sides_mut(&mut self) -> [&mut Side; 4] {
        [&mut self.base, &mut self.source, &mut self.target, &mut self.result]
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named(&Self::ALL, Self::as_str, name)
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named(&Self::ALL, Self::as_str, name)
    }
}

/// Finds the variant named `name`; the error lists the known names.
fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name_of(*one)).collect();
        format!("unknown name `{name}`; expected one of {}", names.join(", "))
    })
}

/// The conflict type of a change: the first kind among its conflicts; `none` if there are none.
#[must_use]
pub fn auto_type(conflicts: &[Conflict]) -> &'static str {
    conflicts.iter().map(|conflict| conflict.kind).min().map_or("none", Kind::as_str)
}

mod name {
    //! Serialises a part as its name on the wire.

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Part;

    pub(super) fn serialize<S: Serializer>(part: &Part, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(part)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
