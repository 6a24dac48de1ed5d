//! The wire form of an event.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Body, Event, EventType, Target};
use crate::parse::{self, Invalid};
use crate::{Limits, Origin, PartPattern, Time, Writer};

/// An event in its JSON form. The chunk stays unparsed until the other fields are known to be valid.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    pub(super) event_id: Uuid,
    #[serde(rename = "type")]
    pub(super) kind: EventType,
    pub(super) source: Origin,
    pub(super) targets: Vec<Target>,
    #[serde(borrow)]
    pub(super) chunk: &'a RawValue,
    pub(super) timestamp: Time,
    #[serde(default)]
    pub(super) retry_count: u32,
    pub(super) writer: Option<Writer>,
    #[serde(default)]
    pub(super) unchanged: Vec<String>,
    #[serde(default)]
    pub(super) set: Vec<String>,
    pub(super) position: Option<String>,
}

impl Wire<'_> {
    pub(super) fn event(self, limits: &Limits) -> Result<Event, Invalid> {
        check_targets(&self.targets)?;
        let writer = self.writer.unwrap_or_else(|| self.source.into());
        let body = match self.kind {
            EventType::Delete => Body::Id(identity(self.chunk.get())?),
            _ if writer == Writer::Postgres => row(self.chunk.get())?,
            _ => Body::Chunk(Box::new(parse::chunk(self.chunk.get(), limits)?)),
        };
        Ok(Event {
            event_id: self.event_id,
            kind: self.kind,
            source: self.source,
            writer,
            targets: self.targets,
            body,
            timestamp: self.timestamp,
            retry_count: self.retry_count,
            unchanged: patterns("unchanged", &self.unchanged)?,
            set: patterns("set", &self.set)?,
            position: self.position,
        })
    }
}

/// The id of a chunk of which nothing else is read.
fn identity(json: &str) -> Result<Uuid, Invalid> {
    #[derive(Deserialize)]
    struct Identity {
        id: Uuid,
    }
    parse::object("chunk", json)?;
    parse::from_json::<Identity>("chunk", json).map(|identity| identity.id)
}

/// The body of an event by `postgres`: only the id, or the row. Limits do not apply to rows: the merge reads the row
/// itself.
fn row(json: &str) -> Result<Body, Invalid> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thin {
        id: Uuid,
    }
    match serde_json::from_str::<Thin>(json) {
        Ok(thin) => Ok(Body::Id(thin.id)),
        Err(_) => Ok(Body::Chunk(Box::new(parse::fact(json)?))),
    }
}

fn check_targets(targets: &[Target]) -> Result<(), Invalid> {
    if targets.is_empty() {
        return Err(Invalid::new("targets", "empty; name at least one of postgres, qdrant, neo4j"));
    }
    match targets.iter().enumerate().find(|(i, target)| targets[..*i].contains(target)) {
        Some((_, target)) => Err(Invalid::new("targets", format!("`{target}` occurs twice; name each store once"))),
        None => Ok(()),
    }
}

fn patterns(field: &str, names: &[String]) -> Result<Vec<PartPattern>, Invalid> {
    let parse =
        |(i, name): (usize, &String)| name.parse().map_err(|e: String| Invalid::new(format!("{field}[{i}]"), e));
    names.iter().enumerate().map(parse).collect()
}
