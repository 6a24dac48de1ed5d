//! The graph in Neo4j 5 or later, over Bolt.
//!
//! ```text
//! (Chunk {id, content_hash, chunk_type, source_type, system_origin, created_at, updated_at, sync_version})
//!   -[:BELONGS_TO]->(Dataset {id})-[:PART_OF]->(Project {id})
//!   -[:CONTAINS_ENTITY {name, type, confidence, position}]->(Entity {id, name, type, confidence, first_seen, last_seen})
//! (Entity)-[:RELATES_TO {type, confidence, evidence}]->(Entity)
//! ```
//!
//! What one chunk says of an entity stands on its own `CONTAINS_ENTITY`, and there too what it says of relations that lead
//! away from the entity, in the parallel lists `relates_to`, `relates_as` and `relates_confidence`. From these, and from
//! the `evidence` that must agree, a document is read back, and the shared properties can be made again. Those themselves
//! (`name`, `type`, `confidence`) are what the supporter with the highest sync version says, the greater id where two are
//! equal; `said_by` and `sync_version` beside them name it, so that an ordinary write need not look at all supporters.
//!
//! Times are RFC 3339 text. Not here: vectors, `SIMILAR_TO` and whatever else others keep in the same graph.

mod config;
mod cypher;
mod decode;
mod encode;
mod examine;
mod fault;
mod message;
mod plan;
mod schema;
mod server;
mod store;

pub use config::Neo4jConfig;
pub use examine::{examine, link};
pub use schema::statements;
pub use store::Neo4jStore;
