//! Merge against a second telling of its rules: a model that keeps every event, knows nothing of records, and works out from
//! scratch what shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_model::merge::{Kind, Strategies};
use chunk_sync_model::{State, Writer};
use proptest::prelude::*;

use support::histories::{Act, Step, View, content, histories, order, play};

/// Time, writer, and the writer's count within the microsecond.
type Version = (i64, Writer, usize);

/// A change of one part: `None` removes it.
#[derive(Clone, Debug)]
struct Change {
    version: Version,
    part: String,
    value: Option<String>,
    /// What its writer said before, and when, since its own last delete.
    base: Option<String>,
    said: Option<Version>,
    on_purpose: bool,
    made_for: String,
    /// Its writer has said nothing else of the part since.
    last: bool,
}

/// What a writer last said of each part, and when.
type Said = BTreeMap<String, (Version, Option<String>)>;

/// Everything that was ever said.
#[derive(Default)]
struct History {
    changes: Vec<Change>,
    /// Words on existence.
    words: Vec<(Version, bool)>,
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
            let (mut said, mut knows) = (Said::new(), false);
            for (i, step) in steps.iter().enumerate() {
                let count = steps[..i].iter().filter(|earlier| earlier.micros == step.micros).count();
                let version = (step.micros, step.writer, count);
                all.newest.insert(step.writer, version);
                match &step.act {
                    Act::Delete => {
                        all.words.push((version, false));
                        all.changes.iter_mut().filter(|c| c.version.1 == step.writer).for_each(|c| c.last = false);
                        (said, knows) = (Said::new(), false);
                    }
                    Act::View(view) => {
                        if step.writer != Writer::Operator && (view.create || !knows) {
                            all.words.push((version, true));
                            knows = true;
                        }
                        all.view(version, view, &mut said);
                    }
                }
            }
        }
        all
    }

    fn view(&mut self, version: Version, view: &View, said: &mut Said) {
        let operator = version.1 == Writer::Operator;
        let view_parts = parts(view);
        let names: BTreeSet<String> =
            view_parts.keys().chain(said.keys()).cloned().chain(view.set.iter().map(|s| (*s).to_owned())).collect();
        let made_for = match view.unchanged.contains(&"content") {
            true => said.get("content").and_then(|(_, value)| value.clone()).unwrap_or_default(),
            false => content(view.content),
        };
        for part in names {
            let named = view.set.contains(&part.as_str());
            let left_out = view.unchanged.iter().any(|group| part.starts_with(group));
            if (operator && !named) || left_out {
                continue;
            }
            let (value, base) = (view_parts.get(&part).cloned(), said.get(&part).and_then(|(_, value)| value.clone()));
            if value == base && !named {
                continue;
            }
            for earlier in self.changes.iter_mut().filter(|c| c.version.1 == version.1 && c.part == part) {
                earlier.last = false;
            }
            let before = said.insert(part.clone(), (version, value.clone())).map(|(version, _)| version);
            self.changes.push(Change {
                version,
                part,
                value,
                base,
                said: before,
                on_purpose: named,
                made_for: made_for.clone(),
                last: true,
            });
        }
    }

    /// The changes of a part that took effect, oldest first. A chunk that is there has a content, swept away or not.
    fn effective(&self, part: &str) -> Vec<&Change> {
        let deleted = self.words.iter().filter(|(_, exists)| !exists).map(|(version, _)| *version).max();
        let effective = self.effective_since(part, deleted);
        if effective.is_empty() && part == "content" {
            return self.effective_since(part, None).pop().into_iter().collect();
        }
        effective
    }

    fn effective_since(&self, part: &str, deleted: Option<Version>) -> Vec<&Change> {
        let since = |change: &Change| deleted.is_none_or(|deleted| change.version > deleted);
        let still_said = |change: &Change| change.last && deleted.is_some_and(|d| self.newest[&change.version.1] > d);
        let mut of_part: Vec<&Change> = self.changes.iter().filter(|c| c.part == part).collect();
        of_part.retain(|change| since(change) || still_said(change));
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
        let decided = effective.iter().rposition(|change| change.version.1 == Writer::Operator).unwrap_or(0);
        effective.split_off(decided)
    }

    fn exists(&self) -> bool {
        self.words.iter().max().is_some_and(|(_, exists)| *exists)
    }

    /// What its writer took to be there: what it said, or what an operator decided since.
    fn base(&self, change: &Change) -> Option<String> {
        let earlier = self.changes.iter().filter(|c| c.part == change.part && c.version < change.version);
        let decision = earlier.filter(|c| c.version.1 == Writer::Operator).max_by_key(|c| c.version);
        match decision {
            Some(decision) if change.said.is_none_or(|said| said < decision.version) => decision.value.clone(),
            _ => change.base.clone(),
        }
    }

    fn in_conflict(&self, held: &Change, change: &Change) -> bool {
        change.version.1 != Writer::Operator
            && held.version.1 != change.version.1
            && held.value != change.value
            && held.value != self.base(change)
    }

    /// What a part comes to.
    fn decide(&self, part: &str, strategy: &str) -> Option<&Change> {
        let changes = self.effective(part);
        match strategy {
            "last_write_wins" => changes.last().copied(),
            "target_wins" => changes.into_iter().reduce(|held, c| if self.in_conflict(held, c) { held } else { c }),
            "manual" => {
                let mut held = *changes.first()?;
                for change in &changes[1..] {
                    if self.in_conflict(held, change) {
                        break;
                    }
                    held = change;
                }
                Some(held)
            }
            _ => {
                let writer = strategy.strip_prefix("prefer:").unwrap();
                let ranks = |c: &&&Change| c.version.1 == Writer::Operator || c.version.1.as_str() == writer;
                let first = changes.iter().rfind(ranks).filter(|c| c.value.is_some());
                first.or(changes.last()).copied()
            }
        }
    }

    /// The embedding that shows, and the other one.
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

/// The same of what merge came to.
fn told(state: &State) -> BTreeMap<String, String> {
    let chunk = state.chunk.clone();
    let mut told = BTreeMap::from([("content".to_owned(), chunk.content.clone())]);
    let number = |dense: &chunk_sync_model::chunk::Dense| dense.vector[0].to_string();
    told.extend(chunk.embeddings.dense.iter().map(|dense| ("dense".to_owned(), number(dense))));
    told.extend(chunk.embeddings.dense_alternative.iter().map(|dense| ("alternative".to_owned(), number(dense))));
    let view = chunk.into_view();
    told.extend(view.metadata.extra.iter().map(|(k, v)| (format!("metadata.{k}"), v.as_str().unwrap().to_owned())));
    told.extend(view.graph.entities.iter().map(|e| (format!("graph.entities.{}", e.id), "there".to_owned())));
    let tie = |r: &chunk_sync_model::chunk::Relationship| format!("tie {} {}", r.source_entity_id, r.target_entity_id);
    told.extend(view.graph.relationships.iter().map(|r| (tie(r), "there".to_owned())));
    told
}

fn config() -> ProptestConfig {
    let said = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if said { default } else { ProptestConfig { cases: 10_000, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn merge_comes_to_what_the_whole_history_says(
        histories in histories(4),
        order in order(),
        strategy in proptest::sample::select(vec!["last_write_wins", "target_wins", "manual", "prefer:cognee"]),
    ) {
        let with = |strategies: Strategies, kind| strategies.with(kind, strategy).unwrap();
        let strategies = [Kind::Content, Kind::Metadata, Kind::Graph].into_iter().fold(Strategies::default(), with);
        let held = play(&histories, &order, &strategies);
        prop_assert_eq!(held.state.as_deref().map(told), History::of(&histories).shown(strategy));
    }
}
