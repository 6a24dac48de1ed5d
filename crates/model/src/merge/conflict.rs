//! What the record of conflicts says of one: the four sides of a three-way merge, by which strategy it ended, and how.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Hash, Part, Time, Writer};

use super::Strategy;

/// A part that the source changed while its held value was neither the source's base nor its new value; or that it
/// changed under a tombstone it did not know of.
///
/// As JSON: `part` by its name on the wire, hashes in hexadecimal, times as RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which part.
    #[serde(with = "name")]
    pub part: Part,
    /// What kind of part that is.
    pub kind: Kind,
    /// What decided.
    pub strategy: Strategy,
    /// How it ended.
    pub outcome: Outcome,
    /// What the source said before.
    pub base: Side,
    /// What the source says now.
    pub source: Side,
    /// What was held.
    pub target: Side,
    /// What shows now.
    pub result: Side,
}

/// One of the sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Who said so; `None` where nobody did.
    pub writer: Option<Writer>,
    /// When.
    pub time: Option<Time>,
    /// What; `None` where the part is not there.
    pub hash: Option<Hash>,
    /// The value itself, as far as it is at hand.
    pub value: Option<Value>,
}

/// Kinds of parts, in the order in which a conflict of several is named after the first.
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
    /// Everything else, existence among it.
    Other,
}

/// How a conflict ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The source's value shows.
    SourceKept,
    /// The source's value does not show: what was held does, or what that had kept from showing.
    TargetKept,
    /// Both show: the one as the alternative of the other.
    BothKept,
    /// A text made of both shows.
    Merged,
    /// It waits for a person; what was set first shows until then.
    Open,
}

impl Kind {
    /// Every one, in order.
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

    /// Its name in reports and in the configuration.
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
    /// Every one.
    pub const ALL: [Self; 5] = [Self::SourceKept, Self::TargetKept, Self::BothKept, Self::Merged, Self::Open];

    /// Its name in reports and metrics.
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
    /// As JSON, in which a value that several sides have stands once: values are what a record of conflicts consists of.
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
        // Neither has keys that are not strings, nor floats that are not finite: JSON holds them.
        serde_json::to_string(&slim).unwrap_or_default()
    }

    /// What [`to_json`](Self::to_json) made.
    ///
    /// # Errors
    /// Where it did not.
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

/// The one of that name, or which names there are.
fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name_of(*one)).collect();
        format!("`{name}` is none of {}", names.join(", "))
    })
}

/// The type of what a change met: that of the first part in conflict; `none` without any.
#[must_use]
pub fn auto_type(conflicts: &[Conflict]) -> &'static str {
    conflicts.iter().map(|conflict| conflict.kind).min().map_or("none", Kind::as_str)
}

mod name {
    //! A part by its name on the wire.

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Part;

    pub(super) fn serialize<S: Serializer>(part: &Part, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(part)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
