//! Hashes by field, which comparison uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Hash;

/// The hash of each field of a document, by field name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub BTreeMap<String, Hash>);

impl Fingerprint {
    /// A hash of all fields.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of_json(&self.0)
    }

    /// The names of the fields that differ between two documents, in ascending order.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys()).collect::<std::collections::BTreeSet<_>>();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}
