//! An event: one change of one chunk, and its wire forms.
//!
//! On a stream an event is a list of fields, which any Redis client can write. Everywhere else (files, HTTP, the log,
//! listeners) it is one JSON object with the same names, in which `targets` is an array and `chunk` an object. A bare
//! chunk stands for an update by its `system_origin` to every store.

mod wire;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use self::wire::Wire;
use crate::chunk::Chunk;
use crate::parse::{self, Invalid};
use crate::{Hash, Limits, Origin, PartPattern, Time, Writer};

/// The raw fields of a stream entry. Names and values are bytes, because any program can write to the stream.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One change of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique per event; the same id again is a repetition.
    pub event_id: Uuid,
    /// The kind of change.
    pub kind: EventType,
    /// The system that published the event.
    pub source: Origin,
    /// The writer of the change: the source, an operator, or a store that received a direct write.
    pub writer: Writer,
    /// The stores that the event waits for; not empty, without duplicates.
    pub targets: Vec<Target>,
    /// The writer's view of the chunk, or only the chunk's id.
    pub body: Body,
    /// When the change was made.
    pub timestamp: Time,
    /// How often the publisher has sent the event before.
    pub retry_count: u32,
    /// Parts that the event omits because they did not change.
    pub unchanged: Vec<PartPattern>,
    /// Parts that the writer sets deliberately, even if another writer has set the same value before.
    pub set: Vec<PartPattern>,
    /// The position of a captured change in PostgreSQL's replication log.
    pub position: Option<String>,
}

/// The chunk that an event carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The writer's complete view.
    Chunk(Box<Chunk>),
    /// The chunk's id: of a delete, and of a thin event by `postgres`, whose row the merge reads.
    Id(Uuid),
}

/// The kind of a change. `create` and `update` are both upserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// An upsert that also revives a chunk deleted by another writer.
    Create,
    /// An upsert.
    Update,
    /// A removal.
    Delete,
}

impl EventType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A store that holds chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The rows: the system of record.
    Postgres,
    /// The vectors.
    Qdrant,
    /// The graph.
    Neo4j,
}

impl Target {
    /// All stores.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Qdrant, Self::Neo4j];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Qdrant => "qdrant",
            Self::Neo4j => "neo4j",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// The id of the chunk that the event changes.
    #[must_use]
    pub fn chunk_id(&self) -> Uuid {
        match &self.body {
            Body::Chunk(chunk) => chunk.id,
            Body::Id(id) => *id,
        }
    }

    /// The time of the change: the later of the event's `timestamp` and the chunk's `updated_at`.
    #[must_use]
    pub fn time(&self) -> Time {
        match &self.body {
            Body::Chunk(chunk) => self.timestamp.max(chunk.metadata.updated_at),
            Body::Id(_) => self.timestamp,
        }
    }

    /// The event that a bare chunk stands for. Its id is a UUIDv5 of the chunk's id, its origin and a hash of the whole
    /// chunk: the same chunk sent twice is a repetition, and a chunk in which anything differs is another event.
    #[must_use]
    pub fn of_chunk(chunk: Chunk) -> Self {
        let whole = Hash::of_json(&chunk);
        Self {
            event_id: Uuid::new_v5(&chunk.id, format!("{}/{whole}", chunk.system_origin).as_bytes()),
            kind: EventType::Update,
            source: chunk.system_origin,
            writer: chunk.system_origin.into(),
            targets: Target::ALL.to_vec(),
            timestamp: chunk.metadata.updated_at,
            body: Body::Chunk(Box::new(chunk)),
            retry_count: 0,
            unchanged: Vec::new(),
            set: Vec::new(),
            position: None,
        }
    }

    /// Reads an event, or a bare chunk, from one JSON object.
    ///
    /// ```
    /// use chunk_sync_model::{Event, EventType, Limits};
    ///
    /// let chunk = r#"{
    ///     "id": "6f1c1d0e-5a64-4d3f-9a5e-0f1f5f3f7a10", "system_origin": "claude", "content": "fn main() {}",
    ///     "chunk_type": "code", "source": {"type": "file"}, "organization": {},
    ///     "location": {"start_char": 0, "end_char": 12, "chunk_index": 0},
    ///     "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z"}}"#;
    /// let event = Event::from_json(chunk, &Limits::default())?;
    /// assert_eq!((event.kind, event.timestamp), (EventType::Update, "2026-01-02T00:00:00Z".parse().unwrap()));
    /// let short = chunk.replace("fn main() {}", "short");
    /// assert_eq!(Event::from_json(&short, &Limits::default()).unwrap_err().field, "chunk.content");
    /// # Ok::<(), chunk_sync_model::Invalid>(())
    /// ```
    ///
    /// # Errors
    /// If `json` is not a JSON object, lacks a required field, or a value breaks a rule: [`Invalid`] with the first
    /// such field.
    pub fn from_json(json: &str, limits: &Limits) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(borrow)]
            chunk: Option<&'a RawValue>,
        }
        parse::object("event", json)?;
        parse::check_event_length(json.len(), limits)?;
        let shape: Shape<'_> = parse::from_json("", json).map_err(|e| Invalid { field: "event".into(), ..e })?;
        match shape.chunk {
            None => parse::chunk(json, limits).map(Self::of_chunk),
            Some(_) => parse::from_json::<Wire<'_>>("", json).and_then(|wire| wire.event(limits)),
        }
    }

    /// Reads an event from the fields of a stream entry. Fields that an event does not have are ignored.
    ///
    /// # Errors
    /// If a field is missing, is not UTF-8 or breaks a rule: [`Invalid`] with the first such field.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)], limits: &Limits) -> Result<Self, Invalid> {
        parse::check_event_length(fields.iter().map(|(name, value)| name.len() + value.len()).sum(), limits)?;
        let optional = |name: &str| {
            let value = fields.iter().find(|(field, _)| field == name.as_bytes());
            value
                .map(|(_, value)| std::str::from_utf8(value).map_err(|_| Invalid::new(name, "not valid UTF-8")))
                .transpose()
        };
        let required = |name: &str| optional(name)?.ok_or_else(|| Invalid::new(name, "missing"));
        let number = |text: &str| {
            text.parse().map_err(|_| {
                Invalid::new(
                    "retry_count",
                    format!("`{text}` is not a count; expected an integer from 0 to 4294967295"),
                )
            })
        };
        let chunk = required("chunk")?;
        Wire {
            event_id: word("event_id", required("event_id")?)?,
            kind: word("type", required("type")?)?,
            source: word("source", required("source")?)?,
            targets: parse::from_json("targets", required("targets")?)?,
            chunk: parse::from_json("chunk", chunk)?,
            timestamp: word("timestamp", required("timestamp")?)?,
            retry_count: optional("retry_count")?.map_or(Ok(0), number)?,
            writer: optional("writer")?.map(|text| word("writer", text)).transpose()?,
            unchanged: optional("unchanged")?.map_or(Ok(Vec::new()), |text| parse::from_json("unchanged", text))?,
            set: optional("set")?.map_or(Ok(Vec::new()), |text| parse::from_json("set", text))?,
            position: optional("position")?.map(str::to_owned),
        }
        .event(limits)
    }

    /// The event as one JSON object, with vectors as base64.
    #[must_use]
    pub fn to_json(&self) -> String {
        let chunk = self.chunk_json();
        let mut json = format!(
            r#"{{"event_id":"{}","type":"{}","source":"{}","writer":"{}","targets":{},"timestamp":"{}","retry_count":{}"#,
            self.event_id,
            self.kind.as_str(),
            self.source,
            self.writer,
            self.targets_json(),
            self.timestamp,
            self.retry_count,
        );
        for (name, parts) in [("unchanged", &self.unchanged), ("set", &self.set)] {
            if !parts.is_empty() {
                json.push_str(&format!(r#","{name}":{}"#, names_json(parts)));
            }
        }
        if let Some(position) = &self.position {
            json.push_str(&format!(r#","position":{}"#, serde_json::Value::from(position.as_str())));
        }
        json.push_str(&format!(r#","chunk":{chunk}}}"#));
        json
    }

    /// The event as the fields of a stream entry.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("event_id", self.event_id.to_string()),
            ("type", self.kind.as_str().to_owned()),
            ("source", self.source.to_string()),
            ("targets", self.targets_json()),
            ("chunk", self.chunk_json()),
            ("timestamp", self.timestamp.to_string()),
            ("retry_count", self.retry_count.to_string()),
            ("writer", self.writer.to_string()),
        ];
        for (name, parts) in [("unchanged", &self.unchanged), ("set", &self.set)] {
            if !parts.is_empty() {
                fields.push((name, names_json(parts)));
            }
        }
        fields.extend(self.position.iter().map(|position| ("position", position.clone())));
        fields
    }

    fn chunk_json(&self) -> String {
        // Serialisation cannot fail: all map keys are strings and all floats are finite.
        match &self.body {
            Body::Chunk(chunk) => serde_json::to_string(chunk).unwrap_or_default(),
            Body::Id(id) => format!(r#"{{"id":"{id}"}}"#),
        }
    }

    fn targets_json(&self) -> String {
        let names: Vec<_> = self.targets.iter().map(|target| target.as_str()).collect();
        serde_json::Value::from(names).to_string()
    }
}

fn names_json(parts: &[PartPattern]) -> String {
    serde_json::Value::from(parts.iter().map(ToString::to_string).collect::<Vec<_>>()).to_string()
}

/// Deserialises an unquoted string, such as the value of a stream's field, as if it were a JSON string.
fn word<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T, Invalid> {
    serde_json::from_value(text.into()).map_err(|error| Invalid::new(field, error.to_string()))
}
