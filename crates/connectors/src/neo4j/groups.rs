//! The data sets and projects of a batch, and those that the store is known to hold.
//!
//! Nearly every write names a data set and a project that are there already. To create them again takes three statements of
//! each transaction, so those that this process has written are left out. A repair, and a chunk that changes its data set,
//! write them whatever is known: another client may have deleted them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_sync_model::SyncVersion;

use super::bolt::Value;
use super::encode::row;

/// The most data sets that are remembered; with one more, all are forgotten.
const MOST: usize = 10_000;

/// The project of each data set, as last written; of no data set, the last project.
type Projects = BTreeMap<Option<String>, Option<String>>;

/// What this process has written since the store was last prepared. What a call is about to write is not known until it is
/// committed, and not at all if another call began meanwhile: their order is not known.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    projects: Projects,
    /// The number of calls so far.
    calls: u64,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process may write meanwhile.
    pub(super) fn forget(&self) {
        self.lock().projects.clear();
    }

    /// The transaction with these groups was committed.
    pub(super) fn note(&self, written: Groups) {
        let mut known = self.lock();
        if known.calls != written.call {
            return;
        }
        if known.projects.len() + written.projects.len() > MOST {
            known.projects.clear();
        }
        known.projects.extend(written.projects);
    }
}

/// What one chunk states.
pub(super) struct Stated<'a> {
    pub(super) version: SyncVersion,
    pub(super) chunk: &'a str,
    pub(super) dataset: Option<&'a str>,
    pub(super) project: Option<&'a str>,
    /// It is written whatever is known.
    pub(super) always: bool,
}

/// The groups that a batch writes: of each data set the project that its newest chunk states.
#[derive(Debug)]
pub(super) struct Groups {
    projects: Projects,
    /// The number of the call.
    call: u64,
}

impl Groups {
    pub(super) fn of<'a>(stated: impl Iterator<Item = Stated<'a>>, known: &Known) -> Self {
        let (mut newest, mut always) =
            (BTreeMap::<Option<&str>, (SyncVersion, &str, Option<&str>)>::new(), BTreeSet::new());
        for Stated { version, chunk, dataset, project, always: is_always } in stated {
            if is_always {
                always.insert(dataset);
            }
            // A chunk without a project says nothing about that of its data set.
            let entry = newest.entry(dataset).or_insert((SyncVersion::default(), "", None));
            if project.is_some() && (version, chunk) >= (entry.0, entry.1) {
                *entry = (version, chunk, project);
            }
        }
        let mut known = known.lock();
        known.calls += 1;
        let is_new = |(dataset, project): &(Option<String>, Option<String>)| {
            let nothing = dataset.is_none() && project.is_none();
            let is_known = match project {
                Some(_) => known.projects.get(dataset) == Some(project),
                None => known.projects.contains_key(dataset),
            };
            !nothing && (always.contains(&dataset.as_deref()) || !is_known)
        };
        let owned = |(dataset, (.., project)): (Option<&str>, (SyncVersion, &str, Option<&str>))| {
            (dataset.map(str::to_owned), project.map(str::to_owned))
        };
        let projects: Projects = newest.into_iter().map(owned).filter(is_new).collect();
        known.projects.retain(|dataset, _| !projects.contains_key(dataset));
        Self { projects, call: known.calls }
    }

    /// The projects, in ascending order.
    pub(super) fn projects(&self) -> Vec<Value> {
        let ids: BTreeSet<&str> = self.projects.values().filter_map(Option::as_deref).collect();
        ids.into_iter().map(Value::from).collect()
    }

    /// The data sets, in ascending order.
    pub(super) fn datasets(&self) -> Vec<Value> {
        self.projects.keys().filter_map(Option::as_deref).map(Value::from).collect()
    }

    /// The rows of data set and project.
    pub(super) fn part_of(&self) -> Vec<Value> {
        let pairs =
            self.projects.iter().filter_map(|(dataset, project)| Some((dataset.as_deref()?, project.as_deref()?)));
        pairs.map(|(dataset, project)| row([dataset.into(), project.into()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(version: u64, dataset: &'static str, project: Option<&'static str>, always: bool) -> Stated<'static> {
        Stated { version: SyncVersion::new(version), chunk: "c", dataset: Some(dataset), project, always }
    }

    fn groups(known: &Known, stated: Vec<Stated<'static>>) -> Vec<(String, Option<String>)> {
        let groups = Groups::of(stated.into_iter(), known);
        let named: Vec<_> =
            groups.projects.iter().map(|(set, project)| (set.clone().unwrap_or_default(), project.clone())).collect();
        known.note(groups);
        named
    }

    #[test]
    fn what_was_written_is_written_again_only_for_a_reason() {
        let known = Known::default();
        let one = |project: &str| vec![("a".to_owned(), Some(project.to_owned()))];
        assert_eq!(groups(&known, vec![stated(1, "a", Some("p"), false)]), one("p"));
        assert_eq!(groups(&known, vec![stated(2, "a", Some("p"), false)]), []);
        assert_eq!(groups(&known, vec![stated(3, "a", Some("p"), true)]), one("p"), "a repair");
        assert_eq!(groups(&known, vec![stated(4, "a", Some("q"), false)]), one("q"), "another project");
        let both = || vec![stated(6, "a", Some("q"), false), stated(5, "a", Some("p"), false)];
        assert_eq!(groups(&known, both()), [], "the newest chunk decides");
        known.forget();
        assert_eq!(groups(&known, both()), one("q"));
    }

    #[test]
    fn what_may_not_have_been_committed_or_came_in_another_order_is_not_known() {
        let known = Known::default();
        let state = |project| std::iter::once(stated(1, "a", Some(project), false));
        groups(&known, state("p").collect());
        drop(Groups::of(state("q"), &known));
        assert_eq!(groups(&known, state("p").collect()).len(), 1, "the other call may have been committed");
        let (first, second) = (Groups::of(state("q"), &known), Groups::of(state("r"), &known));
        known.note(second);
        known.note(first);
        assert_eq!(groups(&known, state("r").collect()).len(), 0);
        assert_eq!(groups(&known, state("q").collect()).len(), 1);
    }

    #[test]
    fn a_chunk_without_a_project_decides_nothing_about_that_of_its_data_set() {
        let known = Known::default();
        let states = vec![stated(2, "a", None, false), stated(1, "a", Some("p"), false)];
        assert_eq!(groups(&known, states), [("a".to_owned(), Some("p".to_owned()))]);
    }
}
