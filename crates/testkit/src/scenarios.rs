//! Scenarios of two writers, an operator and foreign clients of the stores, run through the whole service on any ports:
//! the chunk shows what its table requires, the stores agree, and every world ends with the same chunk.
//!
//! Each scenario is about one chunk, so scenarios run together, one step of each at a time; those with other strategies
//! run in a service of their own.

mod content;
mod embeddings;
mod existence;
mod parts;
mod script;
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::ConflictFilter;
use chunk_sync_engine::repair::{Orphans, plan, publish, until_finished};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_engine::{Detect, DirectSettings, DirectWrites, Ports, Publisher, Service, Settings, WorkerSettings};
use chunk_sync_model::merge::{Conflict, Kind, Strategies};
use chunk_sync_model::{Body, Chunk, Event, Limits, State, Time};
use serde_json::{Value, json};
use uuid::Uuid;

pub use script::{Edits, Scenario, Step};

/// A client that writes into the stores past the service. The version in the store stays the same.
#[async_trait]
pub trait DirectClients: Send + Sync {
    /// Writes these fields of a row, or deletes it.
    async fn row(&self, id: Uuid, edits: Option<&Edits>);

    /// Writes these fields of a point, or deletes it.
    async fn point(&self, id: Uuid, edits: Option<&Edits>);

    /// Writes these properties of a node, or deletes it.
    async fn node(&self, id: Uuid, edits: Option<&Edits>);
}

/// The final state of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The chunk as it shows, and whether it is marked stale; `None` if it is gone.
    pub shown: Option<(Chunk, bool)>,
    /// The recorded conflicts, in the order of part and ending.
    pub conflicts: Vec<Conflict>,
}

/// The outcome of each scenario, by name.
pub type Outcomes = BTreeMap<&'static str, Outcome>;

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [content::table(), embeddings::table(), parts::table(), existence::table(), stores::table()].concat()
}

/// Runs every scenario, asserts what its table requires and that the stores agree, and returns the outcome of each.
pub async fn play(
    scenarios: &[Scenario],
    ports: &Ports,
    clients: &dyn DirectClients,
    dir: &Path,
    now: Time,
) -> Outcomes {
    let names: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), scenarios.len(), "two scenarios have the same name");
    let groups: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.strategies).collect();
    for strategies in groups {
        let group: Vec<&Scenario> = scenarios.iter().filter(|scenario| scenario.strategies == strategies).collect();
        let settings = settings(strategies, dir);
        let service = Service::start(ports.clone(), settings).await.unwrap();
        let mut stage = Stage { ports, clients, service, now, views: BTreeMap::new(), said: BTreeMap::new() };
        let longest = group.iter().map(|scenario| scenario.steps.len()).max().unwrap_or_default();
        for round in 0..longest {
            stage.round(&group, round).await;
        }
        stage.service.stop().await.unwrap();
    }
    let report = verify(ports, &Options::default(), &|_| {}).await.unwrap();
    assert!(report.consistent, "the stores differ at the end: {:?}", report.differences);
    let mut outcomes = Outcomes::new();
    let mut wrong = Vec::new();
    for scenario in scenarios {
        let state = row(ports, scenario.id()).await;
        let conflicts = conflicts(ports, scenario.id()).await;
        wrong.extend(scenario.misses(state.as_deref(), &conflicts));
        let shown = state.map(|state| (state.chunk.clone(), state.embedding_stale));
        outcomes.insert(scenario.name, Outcome { shown, conflicts });
    }
    assert!(wrong.is_empty(), "{} claims do not hold:\n{}", wrong.len(), wrong.join("\n"));
    outcomes
}

fn settings(strategies: &[(&str, &str)], dir: &Path) -> Settings {
    let mut direct = DirectSettings::default();
    let with = |all: Strategies, (name, strategy): &(&str, &str)| match Kind::ALL.iter().find(|k| k.as_str() == *name) {
        Some(kind) => all.with(*kind, strategy).unwrap(),
        None => all.with_part(name, strategy).unwrap(),
    };
    let mut of_parts = Vec::new();
    for rule in strategies {
        match rule {
            ("direct_writes", "merge") => direct.writes = DirectWrites::Merge,
            ("detect", "verify") => direct.detect = Detect::Verify,
            ("detect", "always") => direct.detect = Detect::Always,
            rule => of_parts.push(*rule),
        }
    }
    let strategies = of_parts.iter().fold(Strategies::default(), with);
    let worker = WorkerSettings { wait: Duration::from_millis(20), ..WorkerSettings::default() };
    Settings { strategies, direct, worker, ..Settings::new(dir.join("wal")) }
}

/// The state with these fields written into it.
#[must_use]
pub fn edited(state: &State, edits: &Edits) -> Arc<State> {
    let mut chunk = serde_json::to_value(&state.chunk).unwrap();
    for (path, value) in edits {
        script::put(&mut chunk, path, value.clone());
    }
    Arc::new(State { chunk: serde_json::from_value(chunk).unwrap(), ..state.clone() })
}

async fn row(ports: &Ports, id: Uuid) -> Option<Arc<State>> {
    ports.records.rows_of(&[id]).await.unwrap().pop().flatten()?.state
}

/// The recorded conflicts of a chunk.
async fn conflicts(ports: &Ports, id: Uuid) -> Vec<Conflict> {
    let filter = ConflictFilter { chunk: Some(id), ..ConflictFilter::default() };
    let recorded = ports.records.conflicts(&filter, 1_000).await.unwrap().entries;
    let mut conflicts: Vec<Conflict> = recorded.into_iter().map(|entry| entry.noted.conflict).collect();
    conflicts.sort_by_key(|conflict| (conflict.part.to_string(), conflict.outcome));
    conflicts
}

struct Stage<'a> {
    ports: &'a Ports,
    clients: &'a dyn DirectClients,
    service: Service,
    now: Time,
    /// The last chunk that each writer published in a scenario, as JSON.
    views: BTreeMap<(&'static str, &'static str), Value>,
    /// The events of a scenario.
    said: BTreeMap<&'static str, Vec<Event>>,
}

impl Stage<'_> {
    async fn round(&mut self, group: &[&Scenario], round: usize) {
        let mut events = Vec::new();
        let mut foreign_writes = false;
        for scenario in group {
            let Some(step) = scenario.steps.get(round) else { continue };
            foreign_writes |= self.foreign_writes(scenario, step).await;
            events.extend(self.events(scenario, step).await);
        }
        // Entries of any client: the worker must refuse what the publisher would refuse.
        if !events.is_empty() {
            self.ports.bus.publish(&events).await.unwrap();
        }
        self.service.until_idle().await.unwrap();
        if foreign_writes {
            self.repair().await;
        }
    }

    /// Compares the stores and repairs the differences.
    async fn repair(&self) {
        let options = Options { still: Duration::from_millis(50), ..Options::default() };
        let findings = verify(self.ports, &options, &|_| {}).await.unwrap().findings;
        let publisher = Publisher::new(Arc::clone(&self.ports.bus), Arc::new(Limits::default()));
        let published = publish(self.ports, &publisher, &plan(&findings, Orphans::List), &|_| {}).await.unwrap();
        if let Some(last) = published.last {
            until_finished(&*self.ports.bus, last, &|_| {}).await.unwrap();
        }
        self.service.until_idle().await.unwrap();
    }

    /// Applies a foreign write to the stores; returns whether the stores are to be compared after it.
    async fn foreign_writes(&self, scenario: &Scenario, step: &Step) -> bool {
        let id = scenario.id();
        match step {
            Step::Row(edits) => self.clients.row(id, self.placed(edits).as_ref()).await,
            Step::Point(edits) => self.clients.point(id, self.placed(edits).as_ref()).await,
            Step::Node(edits) => self.clients.node(id, edits.as_ref()).await,
            Step::Unseen(edits) => {
                self.clients.point(id, Some(edits)).await;
                return false;
            }
            Step::Stores { row, point, node } => {
                self.clients.row(id, self.placed(&Some(row.clone())).as_ref()).await;
                self.clients.point(id, Some(point)).await;
                self.clients.node(id, Some(node)).await;
            }
            _ => return false,
        }
        true
    }

    /// Edits, with the second in which they are made as a time.
    fn placed(&self, edits: &Option<Edits>) -> Option<Edits> {
        let placed = |(path, value): &(&'static str, Value)| match (*path, value.as_i64()) {
            ("metadata.updated_at", Some(second)) => (*path, self.at(second).to_string().into()),
            _ => (*path, value.clone()),
        };
        Some(edits.as_ref()?.iter().map(placed).collect())
    }

    async fn events(&mut self, scenario: &Scenario, step: &Step) -> Vec<Event> {
        let event = match step {
            Step::Says { writer, at, kind, edits, set, unchanged } => {
                let view = self.view(scenario, writer);
                for (path, value) in edits {
                    script::put(view, path, value.clone());
                }
                let view = view.clone();
                self.event(scenario, writer, kind, *at, view, set, unchanged)
            }
            Step::Deletes { writer, at } => {
                self.views.remove(&(scenario.name, *writer));
                let chunk = json!({ "id": scenario.id() });
                self.event(scenario, writer, "delete", *at, chunk, &[], &[])
            }
            Step::Reads { writer } => {
                let held = row(self.ports, scenario.id()).await.unwrap_or_else(|| panic!("{}: gone", scenario.name));
                let view = serde_json::to_value(&held.chunk).unwrap();
                self.views.insert((scenario.name, *writer), view);
                return Vec::new();
            }
            Step::Decides { part, value, at } => {
                let held = row(self.ports, scenario.id()).await.unwrap();
                let mut view = serde_json::to_value(&held.chunk).unwrap();
                script::put(&mut view, part, value.clone());
                self.event(scenario, "operator", "update", *at, view, &[part], &[])
            }
            Step::Again => return self.said.get(scenario.name).cloned().unwrap_or_default(),
            // The deletion as capture reports it: an absent row alone decides nothing.
            Step::Row(None) => {
                self.event(scenario, "postgres", "delete", script::PAST, json!({ "id": scenario.id() }), &[], &[])
            }
            Step::Row(_) | Step::Point(_) | Step::Node(_) | Step::Unseen(_) | Step::Stores { .. } => return Vec::new(),
        };
        self.said.entry(scenario.name).or_default().push(event.clone());
        vec![event]
    }

    fn view(&mut self, scenario: &Scenario, writer: &'static str) -> &mut Value {
        let first = || script::bare(scenario.id(), writer, self.now);
        self.views.entry((scenario.name, writer)).or_insert_with(first)
    }

    fn at(&self, second: i64) -> Time {
        Time::from_micros(self.now.micros() + (second - script::PAST) * 1_000_000)
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of an event")]
    fn event(
        &self,
        scenario: &Scenario,
        writer: &str,
        kind: &str,
        at: i64,
        mut chunk: Value,
        set: &[&str],
        unchanged: &[&str],
    ) -> Event {
        let at = self.at(at).to_string();
        if kind != "delete" {
            chunk["metadata"]["updated_at"] = at.clone().into();
        }
        let nth = self.said.get(scenario.name).map_or(0, Vec::len);
        let source = match writer {
            "operator" => "claude",
            "postgres" => "hybrid",
            writer => writer,
        };
        let json = json!({
            "event_id": Uuid::new_v5(&scenario.id(), nth.to_string().as_bytes()),
            "type": kind, "source": source, "writer": writer, "targets": ["postgres", "qdrant", "neo4j"],
            "chunk": chunk, "timestamp": at, "set": set, "unchanged": unchanged,
        });
        let event = Event::from_json(&json.to_string(), &Limits::default());
        let event = event.unwrap_or_else(|invalid| panic!("{}: {invalid}", scenario.name));
        assert!(matches!(&event.body, Body::Id(id) if *id == scenario.id()) || event.chunk_id() == scenario.id());
        event
    }
}
