//! `run`: runs the service until SIGTERM or SIGINT or, with `--drain`, until nothing is left to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chunk_sync_engine::absence::Guard;
use chunk_sync_engine::crash_point::{self, CrashAt};
use chunk_sync_engine::scrub::{Scrubbed, Scrubbing};
use chunk_sync_engine::{Capturing, FillState, Filling, Health, Service};
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::{Config, Http};
use crate::http::{self, App};
use crate::status::LastVerification;
use crate::telemetry;
use crate::wiring::{self, Purpose, Wired};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Exit as soon as the bus is empty, everything read from it is complete, and no store is being filled.
    #[arg(long)]
    drain: bool,

    /// Abort at this failpoint, as `kill -9` would, to test recovery. A wrong name lists the valid ones.
    #[arg(long, value_name = "POINT[:TIME]", hide = true)]
    crash_at: Option<CrashAt>,

    /// Stop at this failpoint, as by SIGSTOP, until SIGCONT.
    #[arg(long, value_name = "POINT[:TIME]", hide = true, conflicts_with = "crash_at")]
    stop_at: Option<CrashAt>,
}

/// The summary printed at the end.
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
    telemetry::init_logs(&config.log);
    arm(arguments);
    let mut signals = Signals::listen()?;
    let running = Running::start(config, arguments.drain).await?;
    let filling = running.filling.state();
    tokio::select! {
        () = signals.next() => info!("stopping: finishing the work under way"),
        result = running.service.ended() => result?,
        result = idle(&running.service, &running.wired, &filling), if arguments.drain => result?,
    }
    let bus = Arc::clone(&running.wired.ports.bus);
    let health = tokio::select! {
        health = running.stop() => health?,
        () = signals.next() => {
            warn!("second signal: exiting at once; the next start replays the work under way");
            return Ok(Ended::Fine);
        }
    };
    say(&health, bus.depth().await?.dead, started.elapsed(), json)?;
    Ok(Ended::Fine)
}

/// Arms the failpoints that the arguments name.
fn arm(arguments: &Arguments) {
    if let Some(at) = arguments.crash_at {
        warn!(point = at.point.as_str(), time = at.time, "the process aborts at this failpoint");
        crash_point::arm(at);
    }
    if let Some(at) = arguments.stop_at {
        warn!(point = at.point.as_str(), time = at.time, "the process stops at this failpoint until SIGCONT");
        crash_point::arm_with(at, stand_still);
    }
}

/// Everything that runs until the process ends.
struct Running {
    wired: Wired,
    service: Arc<Service>,
    capturing: Option<Capturing>,
    filling: Filling,
    scrubbing: Option<Scrubbing>,
    guard: Guard,
    server: Server,
}

/// The HTTP server.
struct Server {
    /// Dropped or sent to: the server ends.
    end: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Starts the service, then what feeds and watches it, then the HTTP server. The address is bound before anything is
    /// opened.
    async fn start(config: Config, drain: bool) -> Result<Self, Failure> {
        let metrics = telemetry::install_metrics();
        let listener = listen(&config.http).await?;
        let wired = wiring::open(&config, Purpose::Run, "run").await?;
        chunk_sync_engine::metrics::show_all(&wired.ports.targets());
        let (worker, settings) = (config.settings.worker.clone(), Arc::new(config.settings.clone()));
        let (ports, publisher, max_deletes) = (&wired.ports, &wired.publisher, config.settings.max_deletes);
        let service = Arc::new(Service::start(ports.clone(), config.settings).await?);
        let leadership = || service.leadership();
        let capturing = wired
            .capture
            .clone()
            .map(|capture| Capturing::start(capture, ports.clone(), publisher.clone(), settings, leadership()));
        let installation = Arc::clone(&wired.installation);
        let filling = Filling::start(ports.clone(), publisher.clone(), installation, &wired.installed, worker);
        let verified = LastVerification::default();
        let scrubbing = config.scrub.filter(|_| !drain).map(|scrub| {
            let verified = verified.clone();
            let note = Arc::new(move |scrubbed: &Scrubbed| verified.note(scrubbed));
            Scrubbing::start(ports.clone(), publisher.clone(), scrub, leadership(), note)
        });
        let guard = Guard::start(ports.clone(), publisher.clone(), max_deletes, leadership());
        let app = App {
            roles: wired.roles.clone(),
            guard: guard.state(),
            installed: wired.installed.clone(),
            filling: filling.state(),
            file: wired.file.clone(),
            service: Arc::clone(&service),
            ports: ports.clone(),
            publisher: publisher.clone(),
            metrics,
            http: config.http,
            verified,
            capture: capturing.as_ref().map(Capturing::monitor),
        };
        let server = Server::start(listener, app)?;
        Ok(Self { wired, service, capturing, filling, scrubbing, guard, server })
    }

    /// Ends the server, then what feeds the service, then the service, which finishes the work under way. Returns its last
    /// health.
    async fn stop(self) -> Result<Health, Failure> {
        let _ = self.server.end.send(());
        self.filling.stop().await;
        self.guard.stop().await;
        if let Some(scrubbing) = self.scrubbing {
            scrubbing.stop().await;
        }
        if let Some(capturing) = self.capturing {
            capturing.stop().await;
        }
        self.server.task.await.map_err(anyhow::Error::from)?.context("the HTTP server failed")?;
        let health = self.service.health();
        match Arc::into_inner(self.service) {
            Some(service) => service.stop().await?,
            None => warn!("the service is still in use; its work under way is replayed at the next start"),
        }
        Ok(health)
    }
}

impl Server {
    fn start(listener: TcpListener, app: App) -> Result<Self, Failure> {
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        let (end, ending) = oneshot::channel::<()>();
        let task = tokio::spawn(http::serve(listener, app, async {
            // A dropped sender also means the end.
            let _ = ending.await;
        }));
        info!("service started; status page on http://{address}/; SIGTERM or Ctrl-C stops it after the work under way");
        Ok(Self { end, task })
    }
}

async fn listen(http: &Http) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(http.listen).await.with_context(|| {
        format!("cannot listen on {}; stop the process that uses it, or set http.listen", http.listen)
    })?;
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    if http.token.is_some() && !address.ip().is_loopback() {
        warn!(%address, "other machines send the token in clear text; listen on loopback, behind a proxy with TLS");
    }
    Ok(listener)
}

/// Sends SIGSTOP to this process.
fn stand_still() {
    use rustix::process::{Signal, getpid, kill_process};
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        warn!(%error, "cannot stop this process");
    }
}

/// SIGTERM and SIGINT, as one stream.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("cannot install signal handlers");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits until no store is being filled and nothing is left to do.
async fn idle(service: &Service, wired: &Wired, filling: &FillState) -> Result<(), Failure> {
    let progress = Progress::new("carrying", 1);
    let done = async {
        filling.ended().await;
        service.until_idle().await
    };
    let result = tokio::select! {
        result = done => result.map_err(Failure::from),
        fault = show(&progress, service, wired) => Err(fault),
    };
    progress.finish();
    result
}

/// Updates the progress until the bus fails to report its depth; returns that fault.
async fn show(progress: &Progress, service: &Service, wired: &Wired) -> Failure {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        match wired.ports.bus.depth().await {
            Ok(depth) => {
                let settled = service.health().done.completed;
                progress.set(settled, Some(settled + depth.unread + depth.pending));
            }
            Err(fault) => return fault.into(),
        }
    }
}

fn say(health: &Health, dead_letters: u64, took: Duration, json: bool) -> Result<(), Failure> {
    let done = health.done;
    let summary = Summary {
        settled: done.completed,
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
        dead => format!("; {} on the bus", output::count(dead, "dead letter")),
    };
    output::line(format_args!(
        "completed {} in {:.1} s{replayed}, {}{dead}",
        output::count(done.completed, "event"),
        took.as_secs_f64(),
        output::count(done.conflicts, "conflict"),
    ))
}
