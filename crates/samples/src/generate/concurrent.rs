//! Events of two writers that edit the same chunks without knowledge of each other.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Generator, START, edit, stamp, vector};
use crate::rng::Rng;

const WRITERS: [&str; 2] = ["claude", "cognee"];

/// The maximum skew of a writer's clock in microseconds, about the duration of ten edits.
const SKEW: usize = 10_000;

/// An endless sequence of edits: of ten edits, three change the content, two the vectors, four the metadata, and one
/// deletes the chunk. An edit is an event with the writer's complete view. If the writer does not have the chunk, or
/// has deleted it, a create event precedes the edit; it does not count as an edit.
#[derive(Debug)]
pub struct ConcurrentEdits {
    rng: Rng,
    chunks: Vec<Value>,
    /// Each writer's view of each chunk, and the time of its last event in microseconds.
    views: Vec<[(Option<Value>, i64); 2]>,
    events: u64,
    seed: u64,
}

impl ConcurrentEdits {
    /// The edits of `seed` on `chunks` chunks with dense vectors of `size` numbers; the same on every platform.
    #[must_use]
    pub fn new(seed: u64, chunks: usize, size: usize) -> Self {
        let chunks: Vec<Value> = Generator::new(seed).size(size).take(chunks).collect();
        let views = vec![[(None, 0), (None, 0)]; chunks.len()];
        Self { rng: Rng::new(seed), chunks, views, events: 0, seed }
    }

    /// The events of the next edit: the edit itself, preceded by a create if the writer does not have the chunk.
    pub fn edit(&mut self) -> Vec<Value> {
        let (chunk, writer) = (self.rng.below(self.chunks.len()), self.rng.below(2));
        let mut events = Vec::new();
        if self.views[chunk][writer].0.is_none() {
            self.views[chunk][writer].0 = Some(self.chunks[chunk].clone());
            events.push(self.event(chunk, writer, "create"));
        }
        let kind = self.change(chunk, writer);
        events.push(self.event(chunk, writer, kind));
        events
    }

    fn change(&mut self, chunk: usize, writer: usize) -> &'static str {
        let draw = self.rng.below(10);
        let view = &mut self.views[chunk][writer].0;
        match (draw, view.as_mut()) {
            (0..3, Some(view)) => edit::content(view, &mut self.rng),
            (3..5, Some(view)) => renew_vectors(view, &mut self.rng),
            (5..9, Some(view)) => edit::metadata(view, &mut self.rng),
            _ => {
                *view = None;
                return "delete";
            }
        }
        "update"
    }

    fn event(&mut self, chunk: usize, writer: usize, kind: &str) -> Value {
        self.events += 1;
        let (view, last) = &mut self.views[chunk][writer];
        // 1,000 µs per event, and later than this writer's previous event on the chunk.
        let now = START + 86_400_000_000 + self.events as i64 * 1_000 + self.rng.below(SKEW) as i64;
        *last = now.max(*last + 1);
        let at = stamp(*last);
        let body = match view {
            Some(view) => {
                view["metadata"]["updated_at"] = at.clone().into();
                view.clone()
            }
            None => json!({ "id": self.chunks[chunk]["id"] }),
        };
        json!({
            "event_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/edit/{}", self.seed, self.events).as_bytes()),
            "type": kind, "source": WRITERS[writer], "targets": ["postgres", "qdrant", "neo4j"], "chunk": body, "timestamp": at,
        })
    }
}

/// Replaces the dense vector by a different one of the same length, as if the model had been run again.
fn renew_vectors(view: &mut Value, rng: &mut Rng) {
    let size = view["embeddings"]["dense"]["vector"].as_array().map_or(0, Vec::len);
    let text = format!("{} {}", view["content"].as_str().unwrap_or_default(), rng.next_u64());
    view["embeddings"]["dense"]["vector"] = vector(&text, size).into();
}
