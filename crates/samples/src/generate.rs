//! An endless, seeded stream of chunks, and realistic updates of a chunk.
//!
//! A chunk recombines sentences and functions of the samples under changed names, with entities that many chunks share.
//! The same seed gives the same chunks on every platform. [`ConcurrentEdits`] generates edits of two writers on the
//! same chunks.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::embed;
use crate::pool::{Entity, POOL, Pool};
pub use crate::rng::Rng;
pub use concurrent::ConcurrentEdits;

mod concurrent;
mod edit;

/// 2025-01-01T00:00:00Z in microseconds: the creation of chunk 0.
const START: i64 = 1_735_689_600_000_000;
/// Chunks per document; the next chunk begins a new path.
const PER_DOCUMENT: usize = 24;

/// An endless iterator over generated chunks; see [`Generator::new`].
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    index: usize,
    dense_size: usize,
}

impl Generator {
    /// The chunks of `seed`. Chunk *n* depends only on the seed, *n* and [`Self::size`]; its `created_at` is about *n*
    /// seconds after that of chunk 0.
    pub fn new(seed: u64) -> Self {
        Self { seed, index: 0, dense_size: crate::DENSE_SIZE }
    }

    /// Sets the length of the dense vectors. With 0 the chunks have no `embeddings`.
    #[must_use]
    pub fn size(mut self, dense_size: usize) -> Self {
        self.dense_size = dense_size;
        self
    }

    /// A realistic update of `chunk`: new content with new embeddings, changed metadata, a new summary, or an entity
    /// added or removed. `updated_at` advances by a second to an hour. The chunk stays valid after any number of edits.
    pub fn edit(chunk: &Value, rng: &mut Rng) -> Value {
        edit::edit(chunk, rng)
    }

    fn make(&self, index: usize) -> Value {
        let pool = &*POOL;
        let mut rng = Rng::new(crate::rng::mix(self.seed) ^ index as u64);
        let entities = draw_entities(pool, 1 + rng.below(5), &mut rng);
        let body = Body::draw(pool, index, &entities, &mut rng);
        let content = &body.content;
        let created = START + index as i64 * 1_000_000 + rng.below(400_000) as i64;
        let updated = stamp(created + rng.below(500_000) as i64);
        let mut chunk = json!({
            "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{index}", self.seed).as_bytes()),
            "system_origin": origin(body.chunk_type, &mut rng),
            "chunk_type": body.chunk_type,
            "source": source(pool, index, &body),
            "location": location(index, content),
            "graph": graph(&entities, content, &mut rng),
            "organization": pool.organizations[rng.below(pool.organizations.len())],
            "metadata": {
                "created_at": stamp(created),
                "updated_at": updated,
                "quality_score": rng.hundredths(40, 99),
                "revision": 1,
                "tags": [body.chunk_type, if rng.one_in(3) { "reviewed" } else { "draft" }],
            },
        });
        if rng.one_in(3) {
            chunk["summary"] = sentence(pool, &mut rng).into();
        }
        if let Some((language, symbol)) = body.code {
            chunk["code_metadata"] = json!({
                "language": language,
                "is_code": body.chunk_type == "code",
                "confidence": rng.hundredths(60, 100),
                "symbols": [symbol],
            });
        }
        if self.dense_size > 0 {
            let dense = vector(content, self.dense_size);
            let filled = crate::embeddings(content, &dense, &chunk["metadata"]["updated_at"]);
            chunk["embeddings"] = filled;
        }
        chunk["content"] = body.content.into();
        chunk
    }
}

impl Iterator for Generator {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let chunk = self.make(self.index);
        self.index += 1;
        Some(chunk)
    }
}

/// The text of a chunk with its type and code properties.
struct Body {
    chunk_type: &'static str,
    content: String,
    /// The language and the name of the function in the content.
    code: Option<(&'static str, String)>,
}

impl Body {
    /// Draws a body: half are code, three eighths prose, one eighth both.
    fn draw(pool: &'static Pool, index: usize, entities: &[Entity], rng: &mut Rng) -> Self {
        match rng.below(8) {
            0..4 => Self::code(pool, index, entities, rng),
            4..7 => Self { chunk_type: "text", content: prose(pool, index, entities, rng), code: None },
            _ => {
                let code = Self::code(pool, index, &[], rng);
                let prose = prose(pool, index, entities, rng);
                let language = code.code.as_ref().map_or("", |code| code.0);
                let content = format!("{prose}\n\n```{language}\n{}\n```", code.content);
                Self { chunk_type: "mixed", content, ..code }
            }
        }
    }

    fn code(pool: &'static Pool, index: usize, entities: &[Entity], rng: &mut Rng) -> Self {
        let function = &pool.functions[rng.below(pool.functions.len())];
        let symbol = format!("{}_{index}", function.symbol);
        let mut content = function.called(&symbol);
        for entity in entities {
            let _ = write!(content, "\n{}See {}.", function.comment(), entity.name);
        }
        Self { chunk_type: "code", content, code: Some((&function.language, symbol)) }
    }
}

/// 3 to 12 sentences, in one of 50 cases 60, with the names of the entities at the end.
fn prose(pool: &Pool, index: usize, entities: &[Entity], rng: &mut Rng) -> String {
    let count = if rng.one_in(50) { 60 } else { 3 + rng.below(10) };
    let mut content = format!("Note {index}.");
    for _ in 0..count {
        content.push(if rng.one_in(6) { '\n' } else { ' ' });
        content.push_str(sentence(pool, rng));
    }
    content.push_str("\nSee also:");
    for (at, entity) in entities.iter().enumerate() {
        let _ = write!(content, "{} {}", if at > 0 { "," } else { "" }, entity.name);
    }
    content
}

fn sentence<'a>(pool: &'a Pool, rng: &mut Rng) -> &'a str {
    &pool.sentences[rng.below(pool.sentences.len())]
}

/// Draws up to `count` distinct entities.
fn draw_entities(pool: &Pool, count: usize, rng: &mut Rng) -> Vec<Entity> {
    let mut drawn: Vec<Entity> = Vec::with_capacity(count);
    for _ in 0..count {
        let entity = pool.entity(rng);
        if drawn.iter().all(|other| other.id != entity.id) {
            drawn.push(entity);
        }
    }
    drawn
}

fn origin(chunk_type: &str, rng: &mut Rng) -> &'static str {
    match chunk_type {
        _ if rng.one_in(10) => "hybrid",
        "code" => "claude",
        "text" => "cognee",
        _ => "hybrid",
    }
}

fn source(pool: &Pool, index: usize, body: &Body) -> Value {
    let document = index / PER_DOCUMENT;
    let repo = &pool.repositories[document % pool.repositories.len()];
    let extension = match (body.chunk_type, &body.code) {
        ("code", Some(("rust", _))) => "rs",
        ("code", Some(("python", _))) => "py",
        ("code", Some(("typescript", _))) => "ts",
        ("code", Some((language, _))) => language,
        _ => "md",
    };
    json!({ "type": "github", "repo": repo, "branch": "main", "path": format!("part_{document}.{extension}") })
}

/// The location of `content` in its document, which reserves 10,000 characters and 400 lines per chunk.
fn location(index: usize, content: &str) -> Value {
    let place = index % PER_DOCUMENT;
    located(place, place * 10_000, Some(1 + place * 400), content)
}

fn located(chunk_index: usize, start_char: usize, start_line: Option<usize>, content: &str) -> Value {
    let mut location = json!({
        "start_char": start_char,
        "end_char": start_char + content.chars().count(),
        "chunk_index": chunk_index,
    });
    if let Some(start) = start_line {
        location["start_line"] = start.into();
        location["end_line"] = (start + content.matches('\n').count()).into();
    }
    location
}

/// The entities, and a chain of relations from each to the next.
fn graph(entities: &[Entity], content: &str, rng: &mut Rng) -> Value {
    let relationships: Vec<Value> = entities.windows(2).map(|ends| relation(&ends[0], &ends[1], rng)).collect();
    let entities: Vec<Value> = entities.iter().map(|entity| described(entity, content, rng)).collect();
    json!({ "entities": entities, "relationships": relationships })
}

fn described(entity: &Entity, content: &str, rng: &mut Rng) -> Value {
    json!({
        "id": entity.id,
        "type": entity.kind,
        "name": entity.name,
        "confidence": rng.hundredths(50, 99),
        "source_positions": positions(&entity.name, content),
    })
}

fn relation(from: &Entity, to: &Entity, rng: &mut Rng) -> Value {
    let kind = match (from.kind.as_str(), to.kind.as_str()) {
        ("function", "function") => "calls",
        ("class", "class") => "extends",
        ("class", "function" | "variable") => "contains",
        ("function" | "class", "concept") => "implements",
        ("function", "class") => "imports",
        ("function" | "class", _) => "references",
        _ => "related_to",
    };
    json!({
        "source_entity_id": from.id,
        "target_entity_id": to.id,
        "type": kind,
        "confidence": rng.hundredths(50, 99),
    })
}

/// The offsets at which `name` begins in `content`, in characters; at most five.
fn positions(name: &str, content: &str) -> Vec<usize> {
    let (mut byte, mut character) = (0, 0);
    content
        .match_indices(name)
        .take(5)
        .map(|(at, _)| {
            character += content[byte..at].chars().count();
            byte = at;
            character
        })
        .collect()
}

/// The hashed words with a little noise in every dimension: as dense as a model's vector, and similar texts still have
/// similar vectors.
fn vector(content: &str, size: usize) -> Vec<f32> {
    let mut rng = Rng::new(embed::hash(content.as_bytes()));
    let share = 0.3 / (size as f64).sqrt();
    let noisy: Vec<f64> = embed::dense(content, size)
        .into_iter()
        .map(|number| {
            let noise = (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            f64::from(number) + share * noise
        })
        .collect();
    embed::normalised(&noisy)
}

/// Formats microseconds since 1970 as RFC 3339. Times beyond jiff's range, which do not occur here, become its maximum.
fn stamp(microseconds: i64) -> String {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests;
