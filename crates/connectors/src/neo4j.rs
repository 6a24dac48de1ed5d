//! The graph projection in Neo4j 4.4 or later, over Bolt.
//!
//! ```text
//! (Chunk {id, content_hash, chunk_type, source_type, system_origin, created_at, updated_at, sync_version})
//!   -[:BELONGS_TO]->(Dataset {id})-[:PART_OF]->(Project {id})
//!   -[:CONTAINS_ENTITY {name, type, confidence, position}]->(Entity {id, name, type, confidence, first_seen, last_seen})
//! (Entity)-[:RELATES_TO {type, confidence, evidence}]->(Entity)
//! ```
//!
//! Each `CONTAINS_ENTITY` stores what its chunk states about the entity. It also stores the chunk's relations that
//! start at the entity, in the parallel lists `relates_to`, `relates_as` and `relates_confidence`. A document is read
//! back from these properties and from the `evidence` lists, which must agree with them. The shared properties can be
//! recomputed from the same data.
//!
//! The shared properties (`name`, `type`, `confidence`) are those of the supporting chunk with the highest sync
//! version. If two versions are equal, the greater chunk id wins. `said_by` and `sync_version` beside them identify
//! that chunk, so an ordinary write does not read all supporters.
//!
//! The node `(:ChunkSyncInstallation {id})` names the installation that the database belongs to.
//!
//! Times are RFC 3339 text. Not here: vectors, `SIMILAR_TO`, and other data that applications keep in the same graph.

mod bolt;
mod config;
mod cypher;
mod decode;
mod encode;
mod examine;
mod fault;
mod groups;
mod leader;
mod mark;
mod obstacle;
mod plan;
mod schema;
mod server;
mod store;
#[cfg(feature = "live")]
mod unwind;

pub use config::Neo4jConfig;
pub use examine::examine;
pub use schema::rights;
pub use store::Neo4jStore;
