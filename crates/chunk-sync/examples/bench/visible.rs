//! Looks into Qdrant and Neo4j for changes that were committed, and notes when each becomes visible there.
//!
//! Looking costs the servers time that the service would use: only the time of update is read, and only of changes that
//! are awaited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use neo4rs::{Graph, query};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{GetPointsBuilder, PayloadIncludeSelector, PointId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::environment::Environment;

/// The pause between two looks: an upper bound of the error of a latency.
const PAUSE: Duration = Duration::from_millis(5);

/// A change that was committed.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) id: Uuid,
    /// `updated_at` of the row in microseconds; `None` if the row was deleted.
    pub(crate) updated: Option<i64>,
    pub(crate) kind: &'static str,
    /// When it was due, not when it was sent: a stall of the sender counts.
    pub(crate) due: Instant,
}

/// The changes that a store does not show yet, and the latencies of those that it shows, in milliseconds by kind.
#[derive(Default)]
pub(crate) struct Watch {
    open: Mutex<Vec<Change>>,
    pub(crate) latencies: Mutex<Vec<(&'static str, f64)>>,
}

impl Watch {
    pub(crate) fn add(&self, change: Change) {
        self.open.lock().unwrap().push(change);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.lock().unwrap().is_empty()
    }

    /// Whether a change that was due at this time, or earlier, is not visible yet.
    pub(crate) fn awaits_until(&self, due: Instant) -> bool {
        self.open.lock().unwrap().iter().any(|change| change.due <= due)
    }

    fn ids(&self) -> Vec<Uuid> {
        self.open.lock().unwrap().iter().map(|change| change.id).collect()
    }

    /// Notes which changes a store shows that has these times of update.
    fn note(&self, asked: &[Uuid], shown: &HashMap<Uuid, i64>) {
        let now = Instant::now();
        self.open.lock().unwrap().retain(|change| {
            let visible = match (shown.get(&change.id), change.updated) {
                (Some(shown), Some(updated)) => *shown >= updated,
                (None, None) => asked.contains(&change.id),
                _ => false,
            };
            if visible {
                let latency = now.saturating_duration_since(change.due).as_secs_f64() * 1e3;
                self.latencies.lock().unwrap().push((change.kind, latency));
            }
            !visible
        });
    }
}

/// Watches both stores until the tasks are dropped.
pub(crate) fn watch(environment: &Environment, qdrant: Arc<Watch>, neo4j: Arc<Watch>) -> JoinSet<()> {
    let (vectors, collection, graph) =
        (environment.vectors.clone(), environment.collection.clone(), environment.graph.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let ids = qdrant.ids();
            if !ids.is_empty() {
                qdrant.note(&ids, &points(&vectors, &collection, &ids).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    tasks.spawn(async move {
        loop {
            let ids = neo4j.ids();
            if !ids.is_empty() {
                neo4j.note(&ids, &nodes(&graph, &ids).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    tasks
}

async fn points(vectors: &Qdrant, collection: &str, ids: &[Uuid]) -> HashMap<Uuid, i64> {
    let ids: Vec<PointId> = ids.iter().map(|id| id.to_string().into()).collect();
    let times = PayloadIncludeSelector::new(vec!["updated_at".to_owned()]);
    let points = vectors.get_points(GetPointsBuilder::new(collection, ids).with_payload(times)).await.unwrap().result;
    let seen = points.into_iter().filter_map(|point| {
        let id: Uuid = match point.id?.point_id_options? {
            qdrant_client::qdrant::point_id::PointIdOptions::Uuid(id) => id.parse().ok()?,
            qdrant_client::qdrant::point_id::PointIdOptions::Num(_) => return None,
        };
        Some((id, micros(point.payload.get("updated_at")?.as_str()?)))
    });
    seen.collect()
}

async fn nodes(graph: &Graph, ids: &[Uuid]) -> HashMap<Uuid, i64> {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    // A node that is deleted while it is read has no properties.
    let asked = query(
        "UNWIND $ids AS id MATCH (c:Chunk {id: id}) WHERE c.updated_at IS NOT NULL RETURN c.id AS id, c.updated_at AS updated",
    );
    let mut rows = graph.execute(asked.param("ids", ids)).await.unwrap();
    let mut seen = HashMap::new();
    while let Some(row) = rows.next().await.unwrap() {
        let (id, updated): (String, String) = (row.get("id").unwrap(), row.get("updated").unwrap());
        seen.insert(id.parse().unwrap(), micros(&updated));
    }
    seen
}

fn micros(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}
