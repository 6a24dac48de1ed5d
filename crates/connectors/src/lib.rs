//! The connectors: each module implements the engine's ports for one vendor and depends on no other vendor.
//!
//! Each has the same layout: `config`, `encode`, `store` (or `bus`), and `fault`, which maps the vendor's errors to
//! classes.
//!
//! The engine with every store in one file, without a server; `examples/embed.rs` also shows how events are built:
//!
//! ```
//! use std::sync::Arc;
//!
//! use chunk_sync_connectors::MAX_BACKLOG;
//! use chunk_sync_connectors::embedded::Embedded;
//! use chunk_sync_engine::{Ports, Publisher, Service, Settings, verify};
//! use chunk_sync_model::{Chunk, Event, Limits};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let limits = Arc::new(Limits::default());
//! let stores = Embedded::open(dir, "an example", Arc::clone(&limits), MAX_BACKLOG)?;
//! let records = Arc::clone(&stores.rows);
//! let ports = Ports::new(stores.bus, records, stores.rows, stores.lease, vec![stores.vectors, stores.graph]);
//!
//! let service = Service::start(ports.clone(), Settings::new(dir.join("wal"))).await?;
//! let chunks = chunk_sync_samples::samples().into_iter().map(serde_json::from_value::<Chunk>);
//! let events = chunks.map(|chunk| Ok(Event::of_chunk(chunk?))).collect::<Result<Vec<_>, serde_json::Error>>()?;
//! Publisher::new(Arc::clone(&ports.bus), limits).publish(events).await?;
//! service.until_idle().await?;
//!
//! let report = verify::verify(&ports, &verify::Options::default(), &|_| {}).await?;
//! assert!(report.consistent && report.chunks > 0);
//! service.stop().await?;
//! # Ok(())
//! # }
//! ```

mod backlog;
mod checked;
pub mod embedded;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod neo4j;
pub mod postgres;
mod probe;
pub mod qdrant;
pub mod redis;
mod remote;
mod tls;

pub use backlog::{MAX_BACKLOG, MaxBacklog};
pub use checked::Checked;
pub use tls::{OwnCertificate, TlsFiles};
