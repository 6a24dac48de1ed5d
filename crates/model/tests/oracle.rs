//! Tests merge against a second implementation of its rules: a model that keeps every event, has no records, and
//! computes the shown values from scratch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_model::merge::{Kind, Strategies};
use chunk_sync_model::{State, Writer};
use proptest::prelude::*;

use support::histories::{Act, Step, View, content, histories, order, play};

/// Time, writer, and the writer's count within the microsecond.
type Version = (i64, Writer, usize);

/// A change of one part.
#[derive(Clone, Debug)]
struct Change {
    version: Version,
    part: String,
    /// The new value; `None` removes the part.
    value: Option<String>,
    /// The value that the writer set before, since its own last delete.
    base: Option<String>,
    /// The version of that earlier change.
    base_version: Option<Version>,
    on_purpose: bool,
    made_for: String,
    /// Whether it is the writer's last change of the part.
    last: bool,
}

/// The value that a writer last set for each part, with its version.
type Base = BTreeMap<String, (Version, Option<String>)>;

/// All changes of all writers.
#[derive(Default)]
struct History {
    changes: Vec<Change>,
    /// Settings of existence.
    existence: Vec<(Version, bool)>,
    /// The newest event of each writer.
    newest: BTreeMap<Writer, Version>,
}

fn parts(view: &View) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::from([("content".to_owned(), content(view.content))]);
    parts.extend(view.keys.iter().map(|(key, value)| (format!("metadata.k{key}"), format!("v{value}"))));
    parts.extend(view.entities.iter().map(|e| (format!("graph.entities.e{e}"), "there".to_owned())));
    parts.extend(view.dense.iter().map(|d| ("embeddings.dense.gte".to_owned(), d.to_string())));
    if let ([from, .., to], true) = (view.entities.as_slice(), view.linked) {
        parts.insert(format!("tie e{from} e{to}"), "there".into());
    }
    parts
}

impl History {
    fn of(histories: &[Vec<Step>]) -> Self {
        let mut all = Self::default();
        for steps in histories {
            let (mut base, mut knows) = (Base::new(), false);
            for (i, step) in steps.iter().enumerate() {
                let count = steps[..i].iter().filter(|earlier| earlier.micros == step.micros).count();
                let version = (step.micros, step.writer, count);
                all.newest.insert(step.writer, version);
                match &step.act {
                    Act::Delete => {
                        all.existence.push((version, false));
                        all.changes.iter_mut().filter(|c| c.version.1 == step.writer).for_each(|c| c.last = false);
                        (base, knows) = (Base::new(), false);
                    }
                    Act::View(view) => {
                        if step.writer != Writer::Operator && (view.create || !knows) {
                            all.existence.push((version, true));
                            knows = true;
                        }
                        all.view(version, view, &mut base);
                    }
                }
            }
        }
        all
    }

    fn view(&mut self, version: Version, view: &View, base: &mut Base) {
        let operator = version.1 == Writer::Operator;
        let view_parts = parts(view);
        let names: BTreeSet<String> =
            view_parts.keys().chain(base.keys()).cloned().chain(view.set.iter().map(|s| (*s).to_owned())).collect();
        let made_for = match view.unchanged.contains(&"content") {
            true => base.get("content").and_then(|(_, value)| value.clone()).unwrap_or_default(),
            false => content(view.content),
        };
        for part in names {
            let named = view.set.contains(&part.as_str());
            let omitted = view.unchanged.iter().any(|group| part.starts_with(group));
            if (operator && !named) || omitted {
                continue;
            }
            let (value, before) =
                (view_parts.get(&part).cloned(), base.get(&part).and_then(|(_, value)| value.clone()));
            if value == before && !named {
                continue;
            }
            for earlier in self.changes.iter_mut().filter(|c| c.version.1 == version.1 && c.part == part) {
                earlier.last = false;
            }
            let base_version = base.insert(part.clone(), (version, value.clone())).map(|(version, _)| version);
            self.changes.push(Change {
                version,
                part,
                value,
                base: before,
                base_version,
                on_purpose: named,
                made_for: made_for.clone(),
                last: true,
            });
        }
    }

    /// The effective changes of a part, oldest first. An existing chunk has a content even if a delete discarded it.
    fn effective(&self, part: &str) -> Vec<&Change> {
        let deleted = self.existence.iter().filter(|(_, exists)| !exists).map(|(version, _)| *version).max();
        let effective = self.effective_since(part, deleted);
        if effective.is_empty() && part == "content" {
            return self.effective_since(part, None).pop().into_iter().collect();
        }
        effective
    }

    fn effective_since(&self, part: &str, deleted: Option<Version>) -> Vec<&Change> {
        let since = |change: &Change| deleted.is_none_or(|deleted| change.version > deleted);
        let still_published =
            |change: &Change| change.last && deleted.is_some_and(|d| self.newest[&change.version.1] > d);
        let mut of_part: Vec<&Change> = self.changes.iter().filter(|c| c.part == part).collect();
        of_part.retain(|change| since(change) || still_published(change));
        of_part.sort_by_key(|change| change.version);
        let mut effective: Vec<&Change> = Vec::new();
        for change in of_part {
            let others = || effective.iter().filter(|other| other.version.1 != change.version.1);
            let echo = change.value.is_some()
                && since(change)
                && others().any(|other| since(other) && other.value == change.value);
            let nothing_to_remove = change.value.is_none()
                && !effective.iter().any(|other| other.version.1 == change.version.1 && other.value.is_some());
            if change.on_purpose || !(echo || nothing_to_remove) {
                effective.push(change);
            }
        }
        let resolved = effective.iter().rposition(|change| change.version.1 == Writer::Operator).unwrap_or(0);
        effective.split_off(resolved)
    }

    fn exists(&self) -> bool {
        self.existence.iter().max().is_some_and(|(_, exists)| *exists)
    }

    /// The value that the writer started from: its own last one, or a later resolution by an operator.
    fn base(&self, change: &Change) -> Option<String> {
        let earlier = self.changes.iter().filter(|c| c.part == change.part && c.version < change.version);
        let resolution = earlier.filter(|c| c.version.1 == Writer::Operator).max_by_key(|c| c.version);
        match resolution {
            Some(other) if change.base_version.is_none_or(|version| version < other.version) => other.value.clone(),
            _ => change.base.clone(),
        }
    }

    fn in_conflict(&self, target: &Change, change: &Change) -> bool {
        change.version.1 != Writer::Operator
            && target.version.1 != change.version.1
            && target.value != change.value
            && target.value != self.base(change)
    }

    /// The winning change of a part under a strategy.
    fn decide(&self, part: &str, strategy: &str) -> Option<&Change> {
        let changes = self.effective(part);
        match strategy {
            "last_write_wins" => changes.last().copied(),
            "target_wins" => {
                changes.into_iter().reduce(|target, c| if self.in_conflict(target, c) { target } else { c })
            }
            "manual" => {
                let mut target = *changes.first()?;
                for change in &changes[1..] {
                    if self.in_conflict(target, change) {
                        break;
                    }
                    target = change;
                }
                Some(target)
            }
            _ => {
                let writer = strategy.strip_prefix("prefer:").unwrap();
                let ranks = |c: &&&Change| c.version.1 == Writer::Operator || c.version.1.as_str() == writer;
                let first = changes.iter().rfind(ranks).filter(|c| c.value.is_some());
                first.or(changes.last()).copied()
            }
        }
    }

    /// The primary embedding and its alternative.
    fn embeddings(&self, content: &str) -> (Option<String>, Option<String>) {
        let mut newest: BTreeMap<Writer, &Change> = BTreeMap::new();
        for change in self.effective("embeddings.dense.gte") {
            newest.insert(change.version.1, change);
        }
        let mut there: Vec<&Change> = newest.into_values().filter(|change| change.value.is_some()).collect();
        there.sort_by_key(|change| (change.made_for == content, change.version));
        let first = there.pop();
        there.retain(|change| Some(&change.value) != first.map(|first| &first.value));
        let other = there.into_iter().max_by_key(|change| change.version);
        (first.and_then(|c| c.value.clone()), other.and_then(|c| c.value.clone()))
    }

    fn shown(&self, strategy: &str) -> Option<BTreeMap<String, String>> {
        if !self.exists() {
            return None;
        }
        let names: BTreeSet<&String> = self.changes.iter().map(|change| &change.part).collect();
        let value = |part: &String| self.decide(part, strategy).and_then(|change| change.value.clone());
        let mut shown: BTreeMap<String, String> = names
            .into_iter()
            .filter(|part| !part.starts_with("embeddings"))
            .filter_map(|part| Some((part.clone(), value(part)?)))
            .collect();
        let entities: BTreeSet<String> =
            shown.keys().filter_map(|p| Some(p.strip_prefix("graph.entities.")?.to_owned())).collect();
        shown.retain(|part, _| {
            part.strip_prefix("tie ").is_none_or(|ends| ends.split(' ').all(|end| entities.contains(end)))
        });
        if let Some(content) = shown.get("content").cloned() {
            let (first, other) = self.embeddings(&content);
            shown.extend(first.map(|value| ("dense".into(), value)));
            shown.extend(other.map(|value| ("alternative".into(), value)));
        }
        Some(shown)
    }
}

/// The shown values of a merged state, in the form of [`History::shown`].
fn merged(state: &State) -> BTreeMap<String, String> {
    let chunk = state.chunk.clone();
    let mut values = BTreeMap::from([("content".to_owned(), chunk.content.clone())]);
    let number = |dense: &chunk_sync_model::chunk::Dense| dense.vector[0].to_string();
    values.extend(chunk.embeddings.dense.iter().map(|dense| ("dense".to_owned(), number(dense))));
    values.extend(chunk.embeddings.dense_alternative.iter().map(|dense| ("alternative".to_owned(), number(dense))));
    let view = chunk.into_view();
    values.extend(view.metadata.extra.iter().map(|(k, v)| (format!("metadata.{k}"), v.as_str().unwrap().to_owned())));
    values.extend(view.graph.entities.iter().map(|e| (format!("graph.entities.{}", e.id), "there".to_owned())));
    let tie = |r: &chunk_sync_model::chunk::Relationship| format!("tie {} {}", r.source_entity_id, r.target_entity_id);
    values.extend(view.graph.relationships.iter().map(|r| (tie(r), "there".to_owned())));
    values
}

fn config() -> ProptestConfig {
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if is_set { default } else { ProptestConfig { cases: 10_000, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn merge_gives_the_state_that_the_model_computes_from_the_whole_history(
        histories in histories(4),
        order in order(),
        strategy in proptest::sample::select(vec!["last_write_wins", "target_wins", "manual", "prefer:cognee"]),
    ) {
        let with = |strategies: Strategies, kind| strategies.with(kind, strategy).unwrap();
        let strategies = [Kind::Content, Kind::Metadata, Kind::Graph].into_iter().fold(Strategies::default(), with);
        let held = play(&histories, &order, &strategies);
        prop_assert_eq!(held.state.as_deref().map(merged), History::of(&histories).shown(strategy));
    }
}
