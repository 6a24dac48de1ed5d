//! `demo`: publishing, conflicts, a crash and verification on embedded stores in a temporary directory. It uses the path of
//! every event; only the input is made up.

mod crash;
mod story;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chunk_sync_engine::verify::{Options, Report, verify};
use chunk_sync_engine::{Health, Service};
use chunk_sync_model::{Chunk, Event};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Ended, Failure, output};
use crate::private;
use crate::wiring::{self, Purpose, Wired};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Create this directory, which must not exist, and keep it. Default: a temporary directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The result of the demonstration.
#[derive(Debug, Serialize)]
struct Outcome {
    events: u64,
    conflicts: u64,
    replayed: u64,
    seconds: f64,
    verification: Report,
}

pub(super) async fn execute(arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let started = Instant::now();
    let temporary = tempfile::Builder::new().prefix("chunk-sync-demo-").tempdir().map_err(anyhow::Error::from)?;
    let dir = match &arguments.keep {
        Some(dir) if dir.exists() => {
            return Err(Failure::Usage(format!(
                "{} already exists; name a directory that does not exist",
                dir.display()
            )));
        }
        Some(dir) => dir.clone(),
        None => temporary.path().join("data"),
    };
    let mut demo = Demo { directory: Directory::new(&dir)?, json, events: 0, conflicts: 0 };
    let outcome = demo.play(started).await?;
    if json {
        output::json(&outcome)?;
    } else {
        let kept = arguments.keep.as_ref().map_or_else(String::new, |dir| {
            format!("; explore its stores with `chunk-sync --config {} verify`", dir.join(Directory::CONFIG).display())
        });
        output::line(format_args!("The demo took {:.1} s{kept}.", outcome.seconds))?;
    }
    Ok(if outcome.verification.consistent { Ended::Fine } else { Ended::Found })
}

/// The directory of the demonstration, with its configuration file.
struct Directory {
    dir: PathBuf,
    config: PathBuf,
}

impl Directory {
    const CONFIG: &str = "chunk-sync.toml";

    fn new(dir: &Path) -> Result<Self, Failure> {
        let config = dir.join(Self::CONFIG);
        let stores = toml::Value::from(dir.join("stores").display().to_string());
        let text = format!("embedded.dir = {stores}\nhttp.listen = \"127.0.0.1:0\"\nlog.level = \"warn\"\n");
        let created = private::create_dir(dir).and_then(|()| private::create_file(&config));
        created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(anyhow::Error::from)?;
        Ok(Self { dir: dir.to_owned(), config })
    }

    /// Reads its configuration, ignoring the environment.
    fn load(&self) -> Result<crate::config::Config, Failure> {
        Ok(crate::config::load(Some(&self.config), &[])?.0)
    }
}

/// The open stores, and the service on them.
struct Running {
    wired: Wired,
    service: Service,
}

struct Demo {
    directory: Directory,
    json: bool,
    events: u64,
    conflicts: u64,
}

impl Demo {
    async fn play(&mut self, started: Instant) -> Result<Outcome, Failure> {
        self.say("chunk-sync on embedded stores: rows, records, vectors, graph and bus in one SQLite file.\n")?;
        let running = self.start().await?;
        self.story(&running).await?;
        self.stop(running).await?;
        let replayed = self.crash().await?;
        self.say("\n5. Verify: read every store and compare its chunks with the rows.")?;
        let wired = wiring::open(&self.directory.load()?, Purpose::Beside, "demo").await?;
        let verification = verify(&wired.ports, &Options::default(), &|_| {}).await?;
        self.say(&super::verify::text(&verification))?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Outcome { events: self.events, conflicts: self.conflicts, replayed, seconds, verification })
    }

    /// Prints a line of the story: to standard output, or with --json to standard error.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            output::note(text);
            return Ok(());
        }
        output::line(text)
    }

    async fn start(&self) -> Result<Running, Failure> {
        let config = self.directory.load()?;
        let wired = wiring::open(&config, Purpose::Run, "demo").await?;
        let service = Service::start(wired.ports.clone(), config.settings).await?;
        Ok(Running { wired, service })
    }

    async fn stop(&mut self, running: Running) -> Result<Health, Failure> {
        let health = running.service.health();
        self.conflicts += health.done.conflicts;
        running.service.stop().await?;
        Ok(health)
    }

    /// Publishes events and waits until every store holds them. Returns the seconds that it took.
    async fn carry(&mut self, running: &Running, events: &[Value]) -> Result<f64, Failure> {
        let started = Instant::now();
        self.publish(&running.wired, events).await?;
        running.service.until_idle().await?;
        Ok(started.elapsed().as_secs_f64())
    }

    async fn publish(&mut self, wired: &Wired, events: &[Value]) -> Result<(), Failure> {
        for batch in events.chunks(256) {
            let parse = |event: &Value| wired.publisher.parse(&event.to_string(), jiff::Timestamp::now().into());
            let parsed: Vec<Event> = batch.iter().map(parse).collect::<Result<_, _>>().map_err(anyhow::Error::from)?;
            wired.publisher.publish(parsed).await?;
        }
        self.events += events.len() as u64;
        Ok(())
    }
}

/// The merged chunk, read from its row; `None` if it does not exist.
async fn row(wired: &Wired, id: Uuid) -> Result<Option<Chunk>, Failure> {
    let rows = wired.ports.records.rows_of(&[id]).await?;
    Ok(rows.into_iter().flatten().find_map(|row| row.state).map(|state| state.chunk.clone()))
}

/// The JSON of an event about a chunk.
fn event(kind: &str, source: &str, chunk: &Value, timestamp: &Value) -> Value {
    serde_json::json!({
        "event_id": Uuid::new_v4(), "type": kind, "source": source, "targets": ["postgres", "qdrant", "neo4j"],
        "chunk": chunk, "timestamp": timestamp,
    })
}
