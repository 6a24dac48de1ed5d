//! The installation: its stores, the version of that set, and the id that marks its servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use chunk_sync_model::{SyncVersion, Target};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Fault, FaultClass};

/// Where a store is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// In a server.
    Server,
    /// In the embedded file.
    Embedded,
}

/// The stores of an installation beside the system of record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreSet(pub BTreeMap<Target, Kept>);

impl StoreSet {
    /// Parses the recorded form, `neo4j,qdrant:embedded`; `None` for any other text.
    #[must_use]
    pub fn from_recorded(text: &str) -> Option<Self> {
        let store = |name: &str| {
            let (name, kept) = match name.strip_suffix(":embedded") {
                Some(name) => (name, Kept::Embedded),
                None => (name, Kept::Server),
            };
            Some((Target::ALL.into_iter().find(|target| target.as_str() == name)?, kept))
        };
        text.split(',').filter(|name| !name.is_empty()).map(store).collect::<Option<_>>().map(Self)
    }

    /// The recorded form.
    #[must_use]
    pub fn recorded(&self) -> String {
        let store = |(target, kept): (&Target, &Kept)| match kept {
            Kept::Server => target.to_string(),
            Kept::Embedded => format!("{target}:embedded"),
        };
        self.0.iter().map(store).collect::<Vec<_>>().join(",")
    }

    /// The stores that `self` has and `other` does not have, or keeps elsewhere.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> BTreeSet<Target> {
        self.0.iter().filter(|(target, kept)| other.0.get(target) != Some(kept)).map(|(target, _)| *target).collect()
    }
}

impl fmt::Display for StoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no store beside the rows");
        }
        f.write_str(&self.recorded().replace(":embedded", " (embedded)").replace(',', ", "))
    }
}

/// What the system of record holds about the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The id that marks the servers of the installation.
    pub id: Uuid,
    /// The version of the set of stores: 1, 2, ….
    pub version: u64,
    /// The set of stores.
    pub stores: StoreSet,
    /// The stores of the set that do not hold everything yet: each is filled until a comparison finds it equal to the
    /// rows.
    pub filling: BTreeSet<Target>,
    /// Every sync version that is assigned is at least this one: `init --adopt` sets it after a restore, so that no
    /// version is used twice for different states.
    pub floor: SyncVersion,
}

/// The record of the installation, kept beside the records of the chunks.
#[async_trait]
pub trait Installation: Send + Sync {
    /// The recorded installation; `None` if no `init` has recorded one, also if the tables do not exist.
    async fn installed(&self) -> Result<Option<Installed>, Fault>;

    /// Whether no chunk has a record yet; true also if the tables do not exist.
    async fn is_fresh(&self) -> Result<bool, Fault>;

    /// Records `new` in place of the installation with the version `before`, and removes the outbox of every store that
    /// is not in the set any more, in one transaction. Fails with [`Busy`](FaultClass::Busy) if another process
    /// recorded another installation meanwhile. Merges that begin later are fenced by the new version.
    async fn record(&self, before: Option<u64>, new: &Installed) -> Result<(), Fault>;

    /// Records that the store holds everything and is not filled any more. Changes nothing if `version` is not the
    /// version of the set any more.
    async fn filled(&self, version: u64, store: Target) -> Result<(), Fault>;
}

/// A server that can hold the id of the installation that uses it.
#[async_trait]
pub trait Marked: Send + Sync {
    /// The object that holds the mark, such as `the stream chunk:sync:stream in Redis`.
    fn place(&self) -> String;

    /// How to remove a mark by hand, as an imperative sentence.
    fn remedy(&self, found: Uuid) -> String;

    /// The ids that the server holds: an empty list if it has no mark yet, more than one if two installations marked it
    /// at the same time; `None` if the server cannot hold a mark.
    async fn marks(&self) -> Result<Option<Vec<Uuid>>, Fault>;

    /// Stores the id on the server, unless it has one or cannot hold a mark.
    async fn set_mark(&self, id: Uuid) -> Result<(), Fault>;
}

/// Checks that no other installation uses the server. Returns false if the server could hold the mark of `id` and has
/// none.
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured), with both ids and the remedy, if the server belongs to another
/// installation; otherwise the fault of the server.
pub async fn check_mark(server: &dyn Marked, id: Option<Uuid>) -> Result<bool, Fault> {
    let Some(marks) = server.marks().await? else {
        return Ok(true);
    };
    let Some(other) = marks.iter().find(|mark| Some(**mark) != id) else {
        return Ok(!marks.is_empty());
    };
    let own = id.map_or_else(|| "this installation has no id yet".to_owned(), |id| format!("this one is {id}"));
    let message = format!(
        "{} belongs to installation {other}, and {own}: two installations cannot share it; name another one in the \
         configuration, or, if that installation is gone for good, {}",
        server.place(),
        server.remedy(*other)
    );
    Err(Fault::new(FaultClass::Misconfigured, "installation", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_stores_is_read_as_it_was_recorded() {
        let set = StoreSet(BTreeMap::from([(Target::Qdrant, Kept::Embedded), (Target::Neo4j, Kept::Server)]));
        assert_eq!(set.recorded(), "qdrant:embedded,neo4j");
        assert_eq!(StoreSet::from_recorded(&set.recorded()), Some(set.clone()));
        assert_eq!(StoreSet::from_recorded(""), Some(StoreSet::default()));
        assert_eq!(StoreSet::from_recorded("qdrant,weaviate"), None);
        assert_eq!(set.to_string(), "qdrant (embedded), neo4j");
    }

    #[test]
    fn a_store_that_moved_to_a_server_is_another_store() {
        let at = |kept| StoreSet(BTreeMap::from([(Target::Qdrant, kept)]));
        assert_eq!(at(Kept::Server).beyond(&at(Kept::Embedded)), BTreeSet::from([Target::Qdrant]));
        assert!(at(Kept::Server).beyond(&at(Kept::Server)).is_empty());
        assert!(StoreSet::default().beyond(&at(Kept::Server)).is_empty());
    }
}
