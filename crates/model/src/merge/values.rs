//! The values available during a merge: those of the view, of the current state and of the record.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use crate::chunk::Chunk;
use crate::hash::content_hash;
use crate::parse::is_marker;
use crate::part_value::PartValue;
use crate::{Hash, Part, Record};

/// The parts of a chunk with their hashes, computed once. Excludes existence and computed fields.
pub(super) struct View<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) parts: Vec<(Part, Hash, PartValue<'a>)>,
}

impl<'a> View<'a> {
    pub(super) fn new(chunk: &'a Chunk) -> Self {
        let parts = chunk.parts().into_iter().filter(|(part, _)| *part != Part::Existence && !is_marker(part));
        Self { chunk, parts: parts.map(|(part, value)| (part, value.hash(), value)).collect() }
    }
}

/// Precedes the full hash of a content whose text has expired, where the record else keeps the text.
pub(super) const SHA256: &str = "sha256:";

/// Identifies a value: within one kind of part, equal hashes mean equal values.
type Name = (Discriminant<Part>, Hash);

/// Values by hash. During a merge this also holds the values taken out of the record; `keep` puts them back at the end.
pub(super) struct Values<'a> {
    borrowed: HashMap<Name, PartValue<'a>>,
    kept: HashMap<Name, String>,
}

impl<'a> Values<'a> {
    pub(super) fn new(record: &mut Record, held: Option<&View<'a>>, view: Option<&View<'a>>) -> Self {
        let mut borrowed = HashMap::new();
        for view in [held, view].into_iter().flatten() {
            borrowed.extend(view.parts.iter().map(|(part, hash, value)| (name(part, *hash), *value)));
            if let Some(alternative) = &view.chunk.embeddings.dense_alternative {
                let value = PartValue::Dense(alternative);
                borrowed.insert(name(&Part::Dense(String::new()), value.hash()), value);
            }
        }
        let mut kept = HashMap::new();
        let parts = record.writers.values_mut().flat_map(|history| &mut history.parts);
        for (part, setting) in parts.flat_map(|(part, settings)| settings.iter_mut().map(move |s| (part, s))) {
            if let (Some(hash), Some(value)) = (setting.shown(), setting.value.take()) {
                kept.insert(name(part, hash), value);
            }
        }
        Self { borrowed, kept }
    }

    pub(super) fn get(&self, part: &Part, hash: Hash) -> Option<PartValue<'a>> {
        self.borrowed.get(&name(part, hash)).copied()
    }

    /// A value of the record as JSON.
    pub(super) fn kept(&self, part: &Part, hash: Hash) -> Option<&str> {
        self.kept.get(&name(part, hash)).map(String::as_str)
    }

    /// The value as JSON, from any of the sources.
    pub(super) fn json(&self, part: &Part, hash: Hash) -> Option<String> {
        let kept = || self.kept(part, hash).map(ToOwned::to_owned);
        self.get(part, hash).map(|value| value.to_json()).or_else(kept)
    }

    /// The full SHA-256 of the content with this hash, hexadecimal: also of one whose text has expired.
    pub(super) fn sha256(&self, hash: Hash) -> Option<String> {
        let expired = || Some(self.kept(&Part::Content, hash)?.strip_prefix(SHA256)?.to_owned());
        self.content(hash).map(|text| content_hash(&text)).or_else(expired)
    }

    /// The content with this hash, from any of the sources.
    pub(super) fn content(&self, hash: Hash) -> Option<String> {
        match self.get(&Part::Content, hash) {
            Some(PartValue::Text(text)) => Some(text.to_owned()),
            _ => serde_json::from_str(self.kept(&Part::Content, hash)?).ok(),
        }
    }
}

fn name(part: &Part, hash: Hash) -> Name {
    (discriminant(part), hash)
}
