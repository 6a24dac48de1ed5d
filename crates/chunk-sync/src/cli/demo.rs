//! `demo`: the story of chunk-sync in five parts, on embedded stores in a temporary directory. The stores drift while two
//! programs write them by hand; the same changes go through chunk-sync; two edits of one text are merged; a service is
//! killed and recovers; every store is compared. It uses the path of every event; only the input is made up.

mod by_hand;
mod changes;
mod crash;
mod outage;
mod screen;
mod story;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

use by_hand::Left;
use outage::{Switch, Switched};
use screen::{Ink, Screen};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Create this directory, which must not exist, and keep it. Default: a temporary directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The result of the demonstration.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Chunks that differed after the same changes had been made by hand.
    differing_by_hand: u64,
    /// Rows that had lost an edit then.
    edits_lost_by_hand: u64,
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
    let mut demo = Demo { directory: Directory::new(&dir)?, screen: Screen::new(json), events: 0, conflicts: 0 };
    let outcome = demo.play(started).await?;
    if json {
        output::json(&outcome)?;
    } else {
        demo.end(&outcome, arguments.keep.is_some())?;
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
        let text = format!(
            "embedded.dir = {stores}\nhttp.listen = \"127.0.0.1:0\"\nlog.level = \"warn\"\nconflicts.content = \"merge_text\"\n"
        );
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
    graph: Arc<Switch>,
}

struct Demo {
    directory: Directory,
    screen: Screen,
    events: u64,
    conflicts: u64,
}

impl Demo {
    async fn play(&mut self, started: Instant) -> Result<Outcome, Failure> {
        let samples = chunk_sync_samples::samples();
        self.begin(samples.len() as u64)?;
        let Left { differing, lost } = self.by_hand(&samples).await?;
        let running = self.start().await?;
        self.through(&running, &samples).await?;
        self.meet(&running, &samples).await?;
        self.stop(running).await?;
        let replayed = self.crash().await?;
        let verification = self.compare().await?;
        Ok(Outcome {
            differing_by_hand: differing,
            edits_lost_by_hand: lost,
            events: self.events,
            conflicts: self.conflicts,
            replayed,
            seconds: started.elapsed().as_secs_f64(),
            verification,
        })
    }

    fn begin(&self, chunks: u64) -> Result<(), Failure> {
        let screen = self.screen;
        screen.print(&screen.ink(Ink::Bold, "chunk-sync keeps three stores equal. This demo needs no server."))?;
        screen.line("A chunk is a piece of text that a search or an agent retrieves. Two programs,")?;
        screen.line(&format!(
            "claude and cognee, share {}. Each is a row in PostgreSQL, a vector",
            output::count(chunks, "chunk")
        ))?;
        screen.line("in Qdrant and a node in Neo4j; here each store is embedded, in a temporary")?;
        screen.line("directory.")
    }

    /// Compares all stores.
    async fn compare(&self) -> Result<Report, Failure> {
        let screen = self.screen;
        screen.heading(5, "Do the stores agree? Read all three, compare every chunk.")?;
        let wired = wiring::open(&self.directory.load()?, Purpose::Beside, "demo").await?;
        let report = verify(&wired.ports, &Options::default(), &|_| {}).await?;
        screen.stores(&report)?;
        let verdict = format!(
            "{} of {} are equal in all stores ({:.1} s).",
            output::percent(report.consistency),
            output::count(report.chunks, "chunk"),
            report.seconds
        );
        if report.consistent { screen.good(&verdict) } else { screen.bad(&verdict) }?;
        Ok(report)
    }

    fn end(&self, outcome: &Outcome, kept: bool) -> Result<(), Failure> {
        let took = format!("The demo took {:.1} s.", outcome.seconds);
        if !kept {
            return self.screen.print(&format!("\n{took} `--keep DIR` keeps its stores."));
        }
        let config = self.directory.config.display();
        self.screen.print(&format!("\n{took} Its stores: `chunk-sync --config {config} verify`"))
    }

    async fn start(&self) -> Result<Running, Failure> {
        let config = self.directory.load()?;
        let mut wired = wiring::open(&config, Purpose::Run, "demo").await?;
        let graph = Arc::new(Switch::default());
        Switched::graph(&mut wired.ports.stores, &graph);
        let service = Service::start(wired.ports.clone(), config.settings).await?;
        Ok(Running { wired, service, graph })
    }

    async fn stop(&mut self, running: Running) -> Result<Health, Failure> {
        let health = running.service.health();
        self.conflicts += health.done.conflicts;
        running.service.stop().await?;
        Ok(health)
    }

    /// Publishes events and waits until every store holds them.
    async fn carry(&mut self, running: &Running, events: &[Value]) -> Result<(), Failure> {
        self.publish(&running.wired, events).await?;
        Ok(running.service.until_idle().await?)
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
