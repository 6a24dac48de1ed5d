//! The first three acts: chunks arrive, two systems change them, and both change the same part.

use chunk_sync_model::Target;
use chunk_sync_samples::embed;
use chunk_sync_samples::generate::Generator;
use chunk_sync_samples::rng::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Demo, Failure, Running, event, row};
use crate::cli::output;

impl Demo {
    pub(super) async fn story(&mut self, running: &Running) -> Result<(), Failure> {
        let samples = chunk_sync_samples::samples();
        self.arrive(running, &samples).await?;
        self.change(running, &samples).await?;
        self.meet(running, &samples).await
    }

    async fn arrive(&mut self, running: &Running, samples: &[Value]) -> Result<(), Failure> {
        self.say("1. Publish: sample chunks of two systems, claude (code) and cognee (knowledge).")?;
        let seconds = self.carry(running, samples).await?;
        let graph = running.wired.ports.stores.iter().find(|store| store.target() == Target::Neo4j);
        let mut others = String::new();
        if let Some(graph) = graph {
            for (name, count) in graph.counts().await?.others {
                others.push_str(&format!(", {} {}", output::number(count), name.replace('_', " ")));
            }
        }
        let chunks = output::count(samples.len() as u64, "chunk");
        self.say(&format!("   {chunks} in all three stores after {seconds:.2} s; in the graph{others}"))
    }

    async fn change(&mut self, running: &Running, samples: &[Value]) -> Result<(), Failure> {
        self.say("\n2. Change: claude edits chunks, cognee annotates the same chunks, some are deleted.")?;
        let (changed, deleted) = (of_claude(samples).take(40), of_claude(samples).skip(60).take(5));
        let mut random = Rng::new(7);
        let mut events = Vec::new();
        for chunk in changed {
            events.push(Generator::edit(chunk, &mut random));
            events.push(annotated(chunk));
        }
        for chunk in deleted {
            events.push(event("delete", "claude", &json!({ "id": chunk["id"] }), &later(chunk, 7200)));
        }
        let seconds = self.carry(running, &events).await?;
        let shown = of_claude(samples).next().and_then(|chunk| chunk["id"].as_str()?.parse::<Uuid>().ok());
        let both = match shown {
            Some(id) => row(&running.wired, id).await?,
            None => None,
        };
        self.say(&format!("   {} completed in {seconds:.2} s", output::count(events.len() as u64, "event")))?;
        if let Some(chunk) = both {
            self.say(&format!("   chunk {}: content by claude, and the summary by cognee is kept:", chunk.id))?;
            self.say(&format!("     summary: {:?}", chunk.summary.unwrap_or_default()))?;
        }
        Ok(())
    }

    async fn meet(&mut self, running: &Running, samples: &[Value]) -> Result<(), Failure> {
        self.say("\n3. Conflict: both rewrite the content of one chunk, independently.")?;
        let Some(chunk) = of_claude(samples).nth(50) else { return Ok(()) };
        let (mut claude, mut cognee) = (chunk.clone(), chunk.clone());
        rewrite(&mut claude, "Rewritten by claude: the tide gauge is read every six minutes.", 600);
        rewrite(&mut cognee, "Rewritten by cognee: the tide gauge is read every ten minutes.", 601);
        let events = [&claude, &cognee].map(|chunk| {
            let source = if chunk == &claude { "claude" } else { "cognee" };
            event("update", source, chunk, &chunk["metadata"]["updated_at"])
        });
        // cognee must have published the chunk before it can change its content.
        let known = event("update", "cognee", chunk, &later(chunk, 1));
        self.carry(running, &[known]).await?;
        self.carry(running, &events).await?;
        let id = chunk["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()).unwrap_or_default();
        let Some(merged) = row(&running.wired, id).await? else { return Ok(()) };
        self.say(&format!("   result:      {:?}", merged.content))?;
        let conflicts = running.service.health().done.conflicts;
        self.say(&format!("   conflicts:   {} so far, all resolved: the newer value wins", output::number(conflicts)))?;
        let embeddings = &merged.embeddings;
        self.say(&format!(
            "   embeddings:  {}; dense of {}, dense_alternative of {}",
            embeddings.conflict_resolution.as_deref().unwrap_or("one"),
            embeddings.primary_source.as_deref().unwrap_or("both"),
            embeddings.alternative_source.as_deref().unwrap_or("none"),
        ))
    }
}

fn of_claude(samples: &[Value]) -> impl Iterator<Item = &Value> {
    samples.iter().filter(|chunk| chunk["system_origin"] == "claude")
}

/// The event by which cognee annotates a chunk of claude.
fn annotated(chunk: &Value) -> Value {
    let mut view = chunk.clone();
    let path = chunk["source"]["path"].as_str().unwrap_or("an unnamed source");
    view["summary"] = format!("What {path} does, in a sentence.").into();
    view["metadata"]["reviewed_by"] = "cognee".into();
    let timestamp = later(chunk, 3600);
    view["metadata"]["updated_at"] = timestamp.clone();
    event("update", "cognee", &view, &timestamp)
}

fn rewrite(chunk: &mut Value, content: &str, seconds: i64) {
    let timestamp = later(chunk, seconds);
    chunk["content"] = content.into();
    chunk["embeddings"]["dense"] = json!({
        "model": "gte", "vector": embed::dense(content, chunk_sync_samples::DENSE_SIZE), "timestamp": timestamp,
    });
    chunk["metadata"]["updated_at"] = timestamp;
}

/// The time `seconds` after the chunk's `updated_at`.
fn later(chunk: &Value, seconds: i64) -> Value {
    let updated = chunk["metadata"]["updated_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let later = updated.unwrap_or_default() + jiff::SignedDuration::from_secs(seconds);
    later.to_string().into()
}
