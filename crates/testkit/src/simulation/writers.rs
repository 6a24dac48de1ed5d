//! The publishing systems: each changes chunks in its own view, one change after the other, and does not continue
//! before the bus has acknowledged the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Bus, Records};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Limits, State, Target, Time};
use chunk_sync_samples::rng::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::scenario::{SHARED, chunk_id};
use super::world::World;
use crate::states::bare;

/// The systems that write.
pub(super) const WRITERS: [&str; 3] = ["claude", "cognee", "hybrid"];

pub(super) struct Author {
    pub(super) name: &'static str,
    pub(super) rng: Rng,
    /// Its view of each chunk that it has read, by chunk number.
    views: BTreeMap<usize, Value>,
    /// Time of its last change, in microseconds.
    last: i64,
    /// Error of its clock, in microseconds.
    skew: i64,
    published: Vec<Event>,
}

/// A random id.
pub(super) fn draw_id(rng: &mut Rng) -> Uuid {
    Uuid::from_u64_pair(rng.next_u64(), rng.next_u64())
}

impl Author {
    pub(super) fn new(name: &'static str, mut rng: Rng) -> Self {
        let skew = (rng.below(120_000_000) as i64) - 60_000_000;
        Self { name, rng, views: BTreeMap::new(), last: 0, skew, published: Vec::new() }
    }

    /// Makes its changes and retries each until the bus acknowledges it.
    pub(super) async fn write(mut self, world: Arc<World>, bus: Arc<dyn Bus>) -> Self {
        for _ in 0..world.scenario.changes {
            sleep(Duration::from_millis(self.rng.below(world.scenario.gap) as u64)).await;
            let event = match self.published.last() {
                Some(_) if self.rng.one_in(12) => self.published[self.rng.below(self.published.len())].clone(),
                _ => self.change(&world).await,
            };
            self.publish(&world, &*bus, &event).await;
            self.published.push(event);
        }
        self
    }

    async fn publish(&mut self, world: &World, bus: &dyn Bus, event: &Event) {
        while bus.publish(std::slice::from_ref(event)).await.is_err() {
            sleep(Duration::from_millis(50 + self.rng.below(500) as u64)).await;
        }
        world.oracle.acknowledged(event.event_id);
    }

    /// The number of events that it has published.
    pub(super) fn count(&self) -> usize {
        self.published.len()
    }

    /// Publishes some of its events once more, without the first ones. An event may state a row as a trigger stored it:
    /// the next one is merged after the trigger has done so again, as it was before.
    pub(super) async fn publish_again(&mut self, world: &World, bus: &dyn Bus, first: usize) -> Result<(), String> {
        for event in self.published.split_off(first) {
            if self.rng.one_in(2) {
                self.publish(world, bus, &event).await;
                if world.scenario.triggers {
                    world.until_idle().await?;
                }
            }
        }
        Ok(())
    }

    async fn change(&mut self, world: &World) -> Event {
        let mut number = self.rng.below(world.scenario.chunks);
        if world.scenario.strange > 0 && self.rng.one_in(6) {
            number = SHARED.start + self.rng.below(SHARED.len());
        }
        let shared = SHARED.contains(&number);
        let id = chunk_id(number);
        if self.rng.one_in(6)
            && let Some(state) = held(&world.records, id).await
        {
            self.views.insert(number, view_of(&state));
        }
        let time = self.time(world.now());
        let kind = match self.rng.below(10) {
            // The keys of the foreign writer are checked at the end, so these chunks stay.
            0 if !shared => "delete",
            1 | 2 => "create",
            _ => "update",
        };
        let mut view = self.views.remove(&number).unwrap_or_else(|| first_view(number));
        if kind != "delete" {
            self.edit(&mut view, time);
            self.views.insert(number, view.clone());
        } else {
            view = json!({ "id": id });
        }
        let mut event = json!({
            "event_id": draw_id(&mut self.rng), "type": kind, "source": self.name, "targets": self.targets(),
            "chunk": view, "timestamp": time.to_string(),
        });
        if self.rng.one_in(8) {
            event["set"] = json!(["content"]);
        }
        if let Some(poison) = world.scenario.poison.filter(|_| number == 0) {
            let (event_id, mut known) = (event["event_id"].as_str().unwrap().to_owned(), world.oracle.known());
            match poison.target {
                Target::Postgres => known.bad.insert(event_id),
                _ => known.doubtful.insert(event_id),
            };
        }
        Event::from_json(&event.to_string(), &world.scenario.settings.limits).unwrap()
    }

    /// Mostly later than the last; sometimes the same microsecond, or earlier.
    fn time(&mut self, now: Time) -> Time {
        let now = now.micros() + self.skew;
        let time = match self.rng.below(15) {
            0 => self.last.max(now - 60_000_000),
            1 if self.last > 0 => self.last - self.rng.below(2) as i64,
            _ => now.max(self.last + 1),
        };
        self.last = self.last.max(time);
        Time::from_micros(time)
    }

    fn targets(&mut self) -> Value {
        let all = ["postgres", "qdrant", "neo4j"];
        let some: Vec<&str> = all.into_iter().filter(|_| self.rng.one_in(2)).collect();
        if some.is_empty() { json!(all) } else { json!(some) }
    }

    fn edit(&mut self, view: &mut Value, time: Time) {
        view["system_origin"] = self.name.into();
        view["metadata"]["updated_at"] = time.to_string().into();
        for _ in 0..=self.rng.below(3) {
            let value = self.rng.below(4);
            match self.rng.below(9) {
                0 | 1 => view["content"] = format!("content number {value} of a chunk").into(),
                2 => set_or_drop(view, "summary", value, &|| format!("summary {value}").into()),
                3 | 4 => {
                    let key = ["a", "b", "c"][self.rng.below(3)];
                    set_or_drop(&mut view["metadata"], key, value, &|| value.into());
                }
                5 => {
                    let vector: Vec<usize> = (0..4).map(|_| 1 + self.rng.below(3)).collect();
                    let dense = json!({ "model": "gte", "vector": vector, "timestamp": time.to_string() });
                    set_or_drop(&mut view["embeddings"], "dense", value, &|| dense.clone());
                }
                6 => {
                    let sparse = json!({ "model": "splade", "indices": [value, 9], "values": [0.5, 1.5] });
                    set_or_drop(&mut view["embeddings"], "sparse", value, &|| sparse.clone());
                }
                7 => view["graph"] = self.graph(),
                _ => view["location"]["end_char"] = (10 + value).into(),
            }
        }
    }

    fn graph(&mut self) -> Value {
        let mut ids: Vec<usize> = (0..3).filter(|_| self.rng.one_in(2)).collect();
        ids.dedup();
        let entity = |id: &usize| {
            json!({ "id": format!("entity {id}"), "type": "concept", "name": format!("name {}", self.rng.below(2)),
                "confidence": 0.5, "source_positions": [] })
        };
        let entities: Vec<Value> = ids.iter().map(entity).collect();
        let relationships: Vec<Value> = ids
            .windows(2)
            .map(|ends| {
                json!({ "source_entity_id": format!("entity {}", ends[0]), "type": "calls",
                    "target_entity_id": format!("entity {}", ends[1]), "confidence": 0.5 })
            })
            .collect();
        json!({ "entities": entities, "relationships": relationships })
    }
}

pub(super) fn first_view(number: usize) -> Value {
    let mut view = bare("first");
    view["id"] = chunk_id(number).to_string().into();
    view["embeddings"] = json!({});
    view
}

/// Removes the key if the value is 3, else sets it.
fn set_or_drop(object: &mut Value, key: &str, value: usize, make: &dyn Fn() -> Value) {
    let Some(object) = object.as_object_mut() else { return };
    match value {
        3 => drop(object.remove(key)),
        _ => drop(object.insert(key.to_owned(), make())),
    }
}

async fn held(records: &Arc<dyn Records>, id: Uuid) -> Option<Arc<State>> {
    records.rows_of(&[id]).await.ok()?.pop()??.state
}

/// The current chunk, as a writer that read it publishes it.
fn view_of(state: &State) -> Value {
    let mut view = serde_json::to_value(&state.chunk).unwrap();
    if view["embeddings"].is_null() {
        view["embeddings"] = json!({});
    }
    view
}

/// The kinds of entries that can never succeed.
pub(super) const MALFORMED: usize = 6;

/// Entries that can never succeed, each with the `event_id` that identifies it.
pub(super) fn malformed(number: usize, limits: &Limits) -> (String, Fields) {
    let id = draw_id(&mut Rng::new(number as u64 + 1));
    let mut event = json!({
        "event_id": id, "type": "update", "source": "claude", "targets": ["qdrant"], "chunk": first_view(0),
        "timestamp": "2026-01-01T00:00:00Z",
    });
    match number % MALFORMED {
        0 => event["timestamp"] = "2199-01-01T00:00:00Z".into(),
        // Their stores are read, and write no events.
        1 => event["writer"] = ["qdrant", "neo4j"][number / MALFORMED % 2].into(),
        // Names no recorded conflict.
        2 => (event["writer"], event["set"]) = ("operator".into(), json!(["code_metadata"])),
        _ => {}
    }
    let event = Event::from_json(&event.to_string(), limits).unwrap();
    let mut fields = fields_of(&event);
    match number % MALFORMED {
        3 => fields.retain(|(name, _)| name != b"type"),
        4 => fields.iter_mut().filter(|(name, _)| name == b"chunk").for_each(|(_, value)| value.push(0xff)),
        5 => fields.iter_mut().filter(|(name, _)| name == b"timestamp").for_each(|(_, value)| *value = b"9999".into()),
        _ => {}
    }
    (id.to_string(), fields)
}

/// A signal for a row that another program than capture added, with a commit time far in the future.
pub(super) fn forged_signal(number: usize, rng: &mut Rng, limits: &Limits) -> Fields {
    let event = json!({
        "event_id": draw_id(rng), "type": "update", "source": "hybrid", "writer": "postgres", "targets": ["qdrant"],
        "chunk": first_view(number), "timestamp": "2200-01-01T00:00:00Z",
    });
    fields_of(&Event::from_json(&event.to_string(), limits).unwrap())
}

fn fields_of(event: &Event) -> Fields {
    event.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}
