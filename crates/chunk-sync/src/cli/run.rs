//! `run`: the service, until it is told to stop or, with `--drain`, until nothing is left to do.

use std::time::{Duration, Instant};

use chunk_sync_engine::{Health, Service};
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End as soon as the bus is empty and everything read from it is settled.
    #[arg(long)]
    drain: bool,
}

/// What was done, said at the end.
#[derive(Debug, Serialize)]
struct Summary {
    settled: u64,
    replayed: u64,
    conflicts: u64,
    dead_letters: u64,
    seconds: f64,
}

pub(super) async fn execute(config: Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let started = Instant::now();
    let wired = wiring::open(&config, "run").await?;
    let service = Service::start(wired.ports.clone(), config.settings).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(anyhow::Error::from)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(anyhow::Error::from)?;
    info!("carrying events; SIGTERM or Ctrl-C ends it in order");
    tokio::select! {
        _ = terminate.recv() => info!("told to stop: finishing what is under way"),
        _ = interrupt.recv() => info!("told to stop: finishing what is under way"),
        result = service.ended() => result?,
        result = idle(&service, &wired), if arguments.drain => result?,
    }
    let health = service.health();
    tokio::select! {
        result = service.stop() => result?,
        _ = terminate.recv() => warn!("told twice: stopping at once; the log has what was under way"),
        _ = interrupt.recv() => warn!("told twice: stopping at once; the log has what was under way"),
    }
    let dead_letters = wired.ports.bus.depth().await?.dead;
    say(&health, dead_letters, started.elapsed(), json)?;
    Ok(Ended::Fine)
}

async fn idle(service: &Service, wired: &wiring::Wired) -> Result<(), Failure> {
    let progress = Progress::new("carrying", 1);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let idle = service.until_idle();
    tokio::pin!(idle);
    let result = loop {
        tokio::select! {
            result = &mut idle => break result,
            _ = ticks.tick() => {
                let done = service.health().done;
                let depth = wired.ports.bus.depth().await?;
                progress.set(done.settled, Some(done.settled + depth.unread + depth.pending));
            }
        }
    };
    progress.finish();
    Ok(result?)
}

fn say(health: &Health, dead_letters: u64, took: Duration, json: bool) -> Result<(), Failure> {
    let done = health.done;
    let summary = Summary {
        settled: done.settled,
        replayed: done.replayed,
        conflicts: done.conflicts,
        dead_letters,
        seconds: took.as_secs_f64(),
    };
    if json {
        return output::json(&summary);
    }
    let replayed = match done.replayed {
        0 => String::new(),
        replayed => format!(", {} replayed from the log", output::number(replayed)),
    };
    let dead = match dead_letters {
        0 => String::new(),
        dead => format!("; {} set aside: see `chunk-sync dead list`", output::count(dead, "dead letter")),
    };
    output::line(format_args!(
        "settled {} in {:.1} s{replayed}, {}{dead}",
        output::count(done.settled, "event"),
        took.as_secs_f64(),
        output::count(done.conflicts, "conflict"),
    ))
}
