//! The changes of the story. Both halves of it make the same ones: by hand, and through chunk-sync.

use chunk_sync_model::Chunk;
use chunk_sync_samples::embed;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, event};

/// Chunks that both programs edit.
const EDITED: usize = 40;

/// Chunks that claude deletes.
const DELETED: usize = 5;

/// What the two programs do to the sample chunks.
pub(super) struct Changes {
    /// claude rewrites the content of these, cognee adds a summary to them.
    pub(super) edited: Vec<Value>,
    /// claude deletes these.
    pub(super) deleted: Vec<Value>,
}

impl Changes {
    pub(super) fn of(samples: &[Value]) -> Self {
        let mut by_claude = samples.iter().filter(|chunk| chunk["system_origin"] == "claude").cloned();
        Self { edited: by_claude.by_ref().take(EDITED).collect(), deleted: by_claude.take(DELETED).collect() }
    }

    /// The number of changes.
    pub(super) fn count(&self) -> u64 {
        (2 * self.edited.len() + self.deleted.len()) as u64
    }

    /// The changes as events. Each program publishes the chunk as it knows it.
    pub(super) fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for chunk in &self.edited {
            events.push(update("claude", &rewritten(chunk)));
            events.push(update("cognee", &summarised(chunk)));
        }
        let deletions = self.deleted.iter();
        events
            .extend(deletions.map(|chunk| event("delete", "claude", &json!({"id": chunk["id"]}), &later(chunk, 7200))));
        events
    }

    /// How many of the edited chunks lack the edit of one of the two programs.
    pub(super) fn lost(&self, now: &[Option<Chunk>]) -> u64 {
        let kept = |(before, now): (&Value, &Option<Chunk>)| {
            now.as_ref().is_some_and(|now| now.content == content_of(&rewritten(before)) && now.summary.is_some())
        };
        (self.edited.len() - self.edited.iter().zip(now).filter(|pair| kept(*pair)).count()) as u64
    }
}

/// The chunk after claude has added a line to its content.
pub(super) fn rewritten(chunk: &Value) -> Value {
    let content = format!("{}\nChecked against the tide gauges.", chunk["content"].as_str().unwrap_or_default());
    let timestamp = later(chunk, 600);
    let mut chunk = chunk.clone();
    let vector = embed::dense(&content, chunk_sync_samples::DENSE_SIZE);
    chunk["content"] = content.into();
    chunk["embeddings"] = json!({"dense": {"model": "gte", "vector": vector, "timestamp": timestamp}});
    chunk["metadata"]["updated_at"] = timestamp;
    chunk
}

/// The chunk after cognee has added a summary.
pub(super) fn summarised(chunk: &Value) -> Value {
    let mut chunk = chunk.clone();
    let path = chunk["source"]["path"].as_str().unwrap_or("an unnamed source");
    chunk["summary"] = format!("What {path} does, in a sentence.").into();
    chunk["metadata"]["updated_at"] = later(&chunk, 3600);
    chunk
}

/// The event by which a program publishes its view of a chunk.
pub(super) fn update(source: &str, chunk: &Value) -> Value {
    event("update", source, chunk, &chunk["metadata"]["updated_at"])
}

/// The id of a chunk.
pub(super) fn id_of(chunk: &Value) -> Result<Uuid, Failure> {
    let id = chunk["id"].as_str().unwrap_or_default();
    id.parse().map_err(|error| Failure::Unable(anyhow::anyhow!("the id of a sample chunk: {error}")))
}

fn content_of(chunk: &Value) -> &str {
    chunk["content"].as_str().unwrap_or_default()
}

/// The time `seconds` after the chunk's `updated_at`.
pub(super) fn later(chunk: &Value, seconds: i64) -> Value {
    let updated = chunk["metadata"]["updated_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let later = updated.unwrap_or_default() + jiff::SignedDuration::from_secs(seconds);
    later.to_string().into()
}
