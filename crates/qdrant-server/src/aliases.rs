//! Aliases of collections: a JSON object from alias to collection, in a file beside the collections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::qdrant_client::qdrant::AliasOperations;
use ::qdrant_client::qdrant::alias_operations::Action;
use tonic::Status;

/// The file; no collection has this name, because it is not a directory.
const FILE: &str = "aliases.json";

/// The aliases of a server.
pub(crate) struct Aliases {
    path: PathBuf,
    names: Mutex<BTreeMap<String, String>>,
}

impl Aliases {
    /// Reads the file in `dir`, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(FILE);
        let names = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            bytes => serde_json::from_slice(&bytes?)?,
        };
        Ok(Self { path, names: Mutex::new(names) })
    }

    /// The pairs of alias and collection, of one collection or of all.
    pub(crate) fn list(&self, collection: Option<&str>) -> Vec<(String, String)> {
        let names = self.lock();
        let of = |(_, to): &(&String, &String)| collection.is_none_or(|name| name == *to);
        names.iter().filter(of).map(|(alias, to)| (alias.clone(), to.clone())).collect()
    }

    /// The collection that an alias names; any other name as it is.
    pub(crate) fn resolve(&self, name: String) -> String {
        self.lock().get(&name).cloned().unwrap_or(name)
    }

    /// Applies the actions in their order, then writes the file.
    ///
    /// # Errors
    /// If an action has no content, an alias to rename or delete does not exist, or the file cannot be written.
    pub(crate) fn change(&self, actions: Vec<AliasOperations>) -> Result<(), Status> {
        let mut names = self.lock();
        let mut changed = names.clone();
        for operation in actions {
            let missing = |alias: &str| Status::not_found(format!("alias {alias} does not exist"));
            match operation.action.ok_or_else(|| Status::invalid_argument("an alias operation has no action"))? {
                Action::CreateAlias(create) => drop(changed.insert(create.alias_name, create.collection_name)),
                Action::DeleteAlias(delete) => {
                    changed.remove(&delete.alias_name).ok_or_else(|| missing(&delete.alias_name))?;
                }
                Action::RenameAlias(rename) => {
                    let to = changed.remove(&rename.old_alias_name).ok_or_else(|| missing(&rename.old_alias_name))?;
                    changed.insert(rename.new_alias_name, to);
                }
            }
        }
        let bytes = serde_json::to_vec(&changed).map_err(|error| Status::internal(error.to_string()))?;
        std::fs::write(&self.path, bytes).map_err(|error| Status::internal(error.to_string()))?;
        *names = changed;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
