//! Embeds the engine as a library, with every store in one file: publishes chunks, carries them to every store, and
//! compares what the stores hold.
//!
//! ```sh
//! cargo run -p chunk-sync-connectors --example embed
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_engine::ports::Projection;
use chunk_sync_engine::settings::Settings;
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_engine::{Ports, Publisher, Service};
use chunk_sync_model::{Event, Limits};
use serde_json::json;
use uuid::Uuid;

/// The embedded stores of a directory as the ports of the engine.
fn ports(dir: &Path, limits: &Arc<Limits>) -> Result<Ports, Box<dyn Error>> {
    let embedded = Embedded::open(dir, "embed", Arc::clone(limits), MAX_BACKLOG)?;
    let stores: Vec<Arc<dyn Projection>> = vec![embedded.vectors, embedded.graph];
    let records = Arc::clone(&embedded.rows);
    Ok(Ports::new(embedded.bus, records, embedded.rows, embedded.lease, stores))
}

fn chunk(number: u32, limits: &Limits) -> Result<Event, Box<dyn Error>> {
    let json = json!({
        "id": Uuid::new_v4(), "system_origin": "claude", "content": format!("paragraph {number}"), "chunk_type": "text",
        "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 12, "chunk_index": number },
        "organization": {},
        "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z" },
    });
    Ok(Event::from_json(&json.to_string(), limits)?)
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("chunk-sync-embed-{}", std::process::id()));
    let limits = Arc::new(Limits::default());
    let ports = ports(&dir, &limits)?;
    let publisher = Publisher::new(Arc::clone(&ports.bus), Arc::clone(&limits));
    let service = Service::start(ports.clone(), Settings::new(dir.join("wal"))).await?;
    let events = (0..10).map(|number| chunk(number, &limits)).collect::<Result<_, _>>()?;
    publisher.publish(events).await?;
    service.until_idle().await?;
    let report = verify(&ports, &Options::default(), &|_| {}).await?;
    println!("{} chunks, {} of them differ between the stores", report.chunks, report.differing);
    service.stop().await?;
    drop(ports);
    std::fs::remove_dir_all(&dir)?;
    if report.consistent { Ok(()) } else { Err("the stores differ".into()) }
}
