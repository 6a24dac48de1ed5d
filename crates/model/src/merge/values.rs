//! The values at hand while a change is merged: those of the view, of what is held, and of the record.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use crate::chunk::Chunk;
use crate::parse::is_marker;
use crate::part::PartValue;
use crate::{Hash, Part, Record};

/// The parts of a chunk with the hash of each, computed once. Existence and computed fields are not among them.
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

/// Values by their hash: within one kind of part, what has the same hash is the same.
pub(super) struct Values<'a>(HashMap<(Discriminant<Part>, Hash), PartValue<'a>>);

impl<'a> Values<'a> {
    pub(super) fn new(held: Option<&View<'a>>, view: Option<&View<'a>>) -> Self {
        let mut values = HashMap::new();
        for view in [held, view].into_iter().flatten() {
            values.extend(view.parts.iter().map(|(part, hash, value)| ((discriminant(part), *hash), *value)));
            if let Some(alternative) = &view.chunk.embeddings.dense_alternative {
                let value = PartValue::Dense(alternative);
                values.insert((discriminant(&Part::Dense(String::new())), value.hash()), value);
            }
        }
        Self(values)
    }

    pub(super) fn get(&self, part: &Part, hash: Hash) -> Option<PartValue<'a>> {
        self.0.get(&(discriminant(part), hash)).copied()
    }

    /// The value as JSON, wherever it is to be had.
    pub(super) fn json(&self, record: &Record, part: &Part, hash: Hash) -> Option<String> {
        let kept = || kept(record, part, hash).map(ToOwned::to_owned);
        self.get(part, hash).map(|value| value.to_json()).or_else(kept)
    }

    /// A text that somebody set the content to.
    pub(super) fn content(&self, record: &Record, hash: Hash) -> Option<String> {
        match self.get(&Part::Content, hash) {
            Some(PartValue::Text(text)) => Some(text.to_owned()),
            _ => serde_json::from_str(kept(record, &Part::Content, hash)?).ok(),
        }
    }
}

/// A value that the record keeps, as JSON.
pub(super) fn kept<'a>(record: &'a Record, part: &Part, hash: Hash) -> Option<&'a str> {
    let settings = record.writers.values().filter_map(|history| history.parts.get(part)).flatten();
    settings.filter(|setting| setting.hash == Some(hash)).find_map(|setting| setting.value.as_deref())
}
