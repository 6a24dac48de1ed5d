//! The fourth part: a service in a separate process is killed in the middle of its work, and another one recovers.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chunk_sync_engine::ports::{Row, each_row};
use chunk_sync_samples::generate::Generator;
use serde_json::Value;

use super::changes::id_of;
use super::{Demo, Failure};
use crate::cli::output;
use crate::wiring::{self, Purpose, Wired};

/// Number of events on the bus when the service starts.
const EVENTS: usize = 1_500;

/// Bytes in the log when the service is killed: about a third of the events.
const LOGGED: u64 = 4_000_000;

/// Time limit for the service to log that much.
const PATIENCE: Duration = Duration::from_secs(120);

impl Demo {
    /// Kills the service and recovers. Returns the number of events that were pending in the log.
    pub(super) async fn crash(&mut self) -> Result<u64, Failure> {
        let (screen, published) = (self.screen, output::number(EVENTS as u64));
        screen.heading(4, &format!("kill -9 in the middle of {published} changes."))?;
        let events: Vec<Value> = Generator::new(11).take(EVENTS).collect();
        {
            let wired = wiring::open(&self.directory.load()?, Purpose::Publish, "demo").await?;
            self.publish(&wired, &events).await?;
        }
        let mut child = self.spawn()?;
        let logged = until_logged(&self.directory.dir.join("stores").join("wal"), &mut child).await;
        // On Unix this is SIGKILL.
        child.kill().and_then(|()| child.wait()).context("cannot kill the service")?;
        logged?;
        let wired = wiring::open(&self.directory.load()?, Purpose::Beside, "demo").await?;
        let left = wired.ports.bus.depth().await?;
        drop(wired);
        let left = output::count(left.unread + left.pending, "change");
        screen.line(&format!("Process {} is killed: {left} not yet in every store.", child.id()))?;
        let started = Instant::now();
        let running = self.start().await?;
        running.service.until_idle().await?;
        let seconds = started.elapsed().as_secs_f64();
        let there = present(&running.wired, &events).await?;
        let health = self.stop(running).await?;
        let pending = health.recovered.map_or(0, |recovered| recovered.replayed + recovered.on_bus);
        screen.line(&format!(
            "Restarted: it repeats {} of its log and goes on with the others;",
            output::count(pending, "change")
        ))?;
        screen.line(&format!("all are done after {seconds:.1} s."))?;
        let verdict = format!("{} of {published} chunks are there: nothing is lost.", output::number(there));
        if there == EVENTS as u64 {
            screen.good(&verdict)?;
            return Ok(pending);
        }
        let lost = EVENTS as u64 - there;
        Err(Failure::Unable(anyhow!("{} lost", output::count(lost, "published chunk"))))
    }

    /// Starts this program as a service on the directory of the demonstration.
    fn spawn(&self) -> Result<Child, Failure> {
        let program = std::env::current_exe().context("cannot determine the path of this program")?;
        let mut command = Command::new(program);
        for (name, _) in crate::config::environment().iter().filter(|(name, _)| name.starts_with("CHUNK_SYNC_")) {
            command.env_remove(name);
        }
        command.arg("--config").arg(&self.directory.config).args(["run", "--drain"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn().context("cannot start the service")?)
    }
}

/// Waits until the log has grown by [`LOGGED`] bytes.
async fn until_logged(wal: &Path, child: &mut Child) -> Result<(), Failure> {
    let (began, before) = (Instant::now(), size(wal));
    while began.elapsed() < PATIENCE {
        if size(wal) >= before + LOGGED {
            return Ok(());
        }
        if let Some(status) = child.try_wait().map_err(anyhow::Error::from)? {
            return Err(Failure::Unable(anyhow!("the service ended before it could be killed: {status}")));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(Failure::Unable(anyhow!("the service logged fewer than {LOGGED} bytes within {} s", PATIENCE.as_secs())))
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// How many of these chunks have a row.
async fn present(wired: &Wired, chunks: &[Value]) -> Result<u64, Failure> {
    let ids = chunks.iter().map(id_of).collect::<Result<Vec<_>, _>>()?;
    let present = |_, row: Option<Row>| row.is_some_and(|row| row.state.is_some());
    let present = each_row(&*wired.ports.records, &ids, present).await?;
    Ok(present.into_iter().filter(|present| *present).count() as u64)
}
