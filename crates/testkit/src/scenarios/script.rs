//! The steps of a scenario, and how its claims are evaluated on a chunk.

use chunk_sync_model::merge::Conflict;
use chunk_sync_model::{State, Target, Time};
use chunk_sync_samples::embed;
use serde_json::{Value, json};
use uuid::Uuid;

/// Fields by their path in the JSON of a chunk, each with its value; null removes the field.
pub type Edits = Vec<(&'static str, Value)>;

/// Second 0 of every scenario is this many seconds before now.
pub(super) const PAST: i64 = 86_400;

/// One step of a scenario.
#[derive(Clone, Debug)]
pub enum Step {
    /// A writer changes its view and publishes the whole chunk.
    Says {
        writer: &'static str,
        at: i64,
        kind: &'static str,
        edits: Edits,
        set: Vec<&'static str>,
        unchanged: Vec<&'static str>,
    },
    /// A writer deletes the chunk.
    Deletes { writer: &'static str, at: i64 },
    /// A writer takes the current chunk as its view.
    Reads { writer: &'static str },
    /// An operator sets a part.
    Decides { part: &'static str, value: Value, at: i64 },
    /// Every event so far is published once more.
    Again,
    /// A foreign client writes the row, or deletes it.
    Row(Option<Edits>),
    /// A foreign client writes the point, or deletes it.
    Point(Option<Edits>),
    /// A foreign client writes the node, or deletes it.
    Node(Option<Edits>),
    /// A foreign client writes the point, and the stores are not compared before the next step.
    Unseen(Edits),
    /// A foreign client writes all three.
    Stores { row: Edits, point: Edits, node: Edits },
}

/// The steps on one chunk, and the state that it must have at the end.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Kinds or names of parts, each with its strategy; `direct_writes` and `detect`, each with its setting.
    pub strategies: &'static [(&'static str, &'static str)],
    pub steps: Vec<Step>,
    /// The fields that must show; `None` if the chunk must be gone.
    pub shows: Option<Edits>,
    /// The conflicts that must be recorded: part and ending, in that order.
    pub meets: Vec<(&'static str, &'static str)>,
}

/// A scenario without steps.
pub(super) fn scenario(name: &'static str) -> Scenario {
    Scenario { name, strategies: &[], steps: Vec::new(), shows: None, meets: Vec::new() }
}

impl Scenario {
    /// The stores, beside the rows, that the scenario requires.
    #[must_use]
    pub fn needs(&self) -> Vec<Target> {
        let needs = |step: &Step| match step {
            Step::Point(_) | Step::Unseen(_) => vec![Target::Qdrant],
            Step::Node(_) => vec![Target::Neo4j],
            Step::Stores { .. } => vec![Target::Qdrant, Target::Neo4j],
            _ => Vec::new(),
        };
        self.steps.iter().flat_map(needs).collect()
    }

    /// The id of its chunk.
    #[must_use]
    pub fn id(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.name.as_bytes())
    }

    pub(super) fn under(self, strategies: &'static [(&'static str, &'static str)]) -> Self {
        Self { strategies, ..self }
    }

    pub(super) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Publishes an update.
    pub(super) fn says<const N: usize>(self, writer: &'static str, at: i64, edits: [(&'static str, Value); N]) -> Self {
        self.event(writer, at, "update", edits, &[], &[])
    }

    /// Publishes a create.
    pub(super) fn creates<const N: usize>(
        self,
        writer: &'static str,
        at: i64,
        edits: [(&'static str, Value); N],
    ) -> Self {
        self.event(writer, at, "create", edits, &[], &[])
    }

    /// An update that names parts as set on purpose, or as not carried.
    pub(super) fn event<const N: usize>(
        self,
        writer: &'static str,
        at: i64,
        kind: &'static str,
        edits: [(&'static str, Value); N],
        set: &[&'static str],
        unchanged: &[&'static str],
    ) -> Self {
        let (set, unchanged) = (set.to_vec(), unchanged.to_vec());
        self.step(Step::Says { writer, at, kind, edits: edits.into(), set, unchanged })
    }

    pub(super) fn deletes(self, writer: &'static str, at: i64) -> Self {
        self.step(Step::Deletes { writer, at })
    }

    pub(super) fn reads(self, writer: &'static str) -> Self {
        self.step(Step::Reads { writer })
    }

    pub(super) fn shows<const N: usize>(self, shows: [(&'static str, Value); N]) -> Self {
        Self { shows: Some(shows.into()), ..self }
    }

    pub(super) fn meets<const N: usize>(self, meets: [(&'static str, &'static str); N]) -> Self {
        Self { meets: meets.to_vec(), ..self }
    }

    /// The recorded conflicts that differ from the table.
    pub(super) fn misses(&self, state: Option<&State>, conflicts: &[Conflict]) -> Vec<String> {
        let noted: Vec<_> = conflicts.iter().map(|noted| (noted.part.to_string(), noted.outcome.as_str())).collect();
        let wrong = !noted.iter().map(|(part, outcome)| (part.as_str(), *outcome)).eq(self.meets.iter().copied());
        let wrong = wrong.then(|| format!("{}: recorded conflicts are {noted:?}, not {:?}", self.name, self.meets));
        self.hides(state).into_iter().chain(wrong).collect()
    }

    /// The fields that differ from the table.
    fn hides(&self, state: Option<&State>) -> Vec<String> {
        let (expected, state) = match (&self.shows, state) {
            (None, None) => return Vec::new(),
            (None, Some(_)) => return vec![format!("{}: the chunk exists", self.name)],
            (Some(_), None) => return vec![format!("{}: the chunk is gone", self.name)],
            (Some(expected), Some(state)) => (expected, state),
        };
        let wrong = |(path, value): &(&str, Value)| {
            let found = look(state, path);
            (found != *value).then(|| format!("{}: {path} shows {found}, not {value}", self.name))
        };
        expected.iter().filter_map(wrong).collect()
    }
}

/// A chunk with only the required fields.
pub(super) fn bare(id: Uuid, writer: &str, now: Time) -> Value {
    let created = Time::from_micros(now.micros() - (PAST + 60) * 1_000_000).to_string();
    json!({
        "id": id, "system_origin": writer, "content": "what stands there at first", "chunk_type": "text",
        "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 26, "chunk_index": 0 },
        "organization": {}, "metadata": { "created_at": created, "updated_at": created },
    })
}

/// A vector of `gte` that its first number, at least 1, identifies.
pub(super) fn gte(number: u8, at: i64) -> Value {
    dense("gte", number, at)
}

/// The same for any model.
pub(super) fn dense(model: &str, number: u8, at: i64) -> Value {
    let mut vector = embed::dense("a scenario", 768);
    vector[0] = f32::from(number);
    json!({ "model": model, "vector": vector, "timestamp": format!("2026-01-01T00:{:02}:{:02}Z", at / 60, at % 60) })
}

/// A sparse vector with a name.
pub(super) fn sparse(model: &str, at: i64) -> Value {
    json!({ "model": model, "indices": [1, 7], "values": [0.5, 0.25], "timestamp": format!("2026-01-01T00:00:{at:02}Z") })
}

/// An entity.
pub(super) fn entity(id: &str, name: &str) -> Value {
    json!({ "id": id, "type": "concept", "name": name, "confidence": 0.5, "source_positions": [0] })
}

/// A relationship `calls` between two entities.
pub(super) fn calls(from: &str, to: &str) -> Value {
    json!({ "source_entity_id": from, "target_entity_id": to, "type": "calls", "confidence": 0.5 })
}

/// Sets a value at a path of names between dots; null removes the value.
pub(super) fn put(json: &mut Value, path: &str, value: Value) {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parents = parents.split('.').filter(|parent| !parent.is_empty());
    let parent = parents.fold(json, |json, name| &mut json[name]);
    match (&value, parent.as_object_mut()) {
        (Value::Null, Some(parent)) => drop(parent.remove(name)),
        _ => parent[name] = value,
    }
}

/// The value at a path: a field of the JSON, or `dense.MODEL`, `alternative` (their first numbers), `sparse` (its
/// model), `stale`, `entity.ID` (its name), `calls` (pairs of ids). Null if there is none.
fn look(state: &State, path: &str) -> Value {
    let (chunk, graph) = (&state.chunk, &state.chunk.graph);
    let first = |dense: &chunk_sync_model::chunk::Dense| Value::from(f64::from(dense.vector[0]));
    match path.split_once('.') {
        Some(("dense", model)) => {
            chunk.embeddings.dense.iter().find(|dense| dense.model == model).map_or(Value::Null, first)
        }
        Some(("entity", id)) => graph
            .entities
            .iter()
            .find(|entity| entity.id == id)
            .map_or(Value::Null, |entity| entity.name.clone().into()),
        None if path == "alternative" => chunk.embeddings.dense_alternative.as_ref().map_or(Value::Null, first),
        None if path == "sparse" => {
            chunk.embeddings.sparse.as_ref().map_or(Value::Null, |sparse| sparse.model.clone().into())
        }
        None if path == "stale" => state.embedding_stale.into(),
        None if path == "calls" => {
            graph.relationships.iter().map(|r| json!([r.source_entity_id, r.target_entity_id])).collect()
        }
        _ => {
            let json = serde_json::to_value(chunk).unwrap();
            path.split('.').try_fold(&json, |json, name| json.get(name)).cloned().unwrap_or_default()
        }
    }
}
