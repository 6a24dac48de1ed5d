//! `status`: prints the state of the service. Queries the running service over HTTP; if none runs, queries the stores.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use chunk_sync_engine::ports::{AbsenceCounts, Installed, Suspicion};
use chunk_sync_model::Target;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::net::TcpStream;

use super::{Ended, Failure, output};
use crate::config::{Config, Http};
use crate::status::{Failing, Status, Verification};
use crate::wiring::{self, Purpose, Wired};

/// Time limit for the answer of the service.
const PATIENCE: Duration = Duration::from_secs(10);

/// Maximum size of an answer in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The state if no service runs.
#[derive(Debug, Serialize)]
struct Resting {
    running: bool,
    roles: String,
    installation: Installed,
    unread: u64,
    pending: u64,
    dead: u64,
    open_conflicts: u64,
    pending_writes: BTreeMap<Target, u64>,
    chunks: BTreeMap<Target, u64>,
    /// Living chunks without a row.
    absent: AbsenceCounts,
    /// Why the table is not the one on record.
    suspicion: Option<Suspicion>,
}

pub(super) async fn execute(config: &Config, json: bool) -> Result<Ended, Failure> {
    if let Some(status) = running(&config.http).await? {
        if json {
            output::json(&status)?;
        } else {
            output::line(text(&status, config.http.listen))?;
        }
        return Ok(if status.ready { Ended::Fine } else { Ended::Found });
    }
    let resting = resting(config).await?;
    if json {
        output::json(&resting)?;
    } else {
        output::line(resting_text(&resting, config.http.listen))?;
    }
    Ok(Ended::Fine)
}

/// Fetches the status of the service that listens on the configured address; `None` if no process listens there.
///
/// # Errors
/// [`Failure::Unable`] if the process does not answer within [`PATIENCE`], rejects the token, or does not return a status of
/// this version.
pub(super) async fn running(http: &Http) -> Result<Option<Status>, Failure> {
    let Ok(stream) = TcpStream::connect(reachable(http.listen)).await else {
        return Ok(None);
    };
    match tokio::time::timeout(PATIENCE, ask(stream, http)).await {
        Ok(status) => Ok(Some(status.with_context(|| format!("{} does not return a status", http.listen))?)),
        Err(_) => Err(Failure::Unable(anyhow!("no answer from {} within {} s", http.listen, PATIENCE.as_secs()))),
    }
}

/// The address to connect to: loopback for a service that listens on every address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(stream: TcpStream, http: &Http) -> anyhow::Result<Status> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::get("/v1/status").header(header::HOST, reachable(http.listen).to_string());
    if let Some(token) = &http.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
    }
    let answer = sender.send_request(request.body(Body::empty())?).await?;
    let status = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await?;
    if status == StatusCode::UNAUTHORIZED {
        bail!("the token is rejected; set http.token to the token of the running service");
    }
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body).context("the answer is not a status of this version of chunk-sync")
}

async fn resting(config: &Config) -> Result<Resting, Failure> {
    let wired = wiring::open(config, Purpose::Beside, "status").await?;
    let depth = wired.ports.bus.depth().await?;
    let mut chunks = BTreeMap::from([(Target::Postgres, wired.ports.records.counts().await?.chunks)]);
    for store in &wired.ports.stores {
        chunks.insert(store.target(), store.counts().await?.chunks);
    }
    let mut pending_writes = wired.ports.records.outbox_counts().await?;
    pending_writes.retain(|target, _| chunks.contains_key(target));
    let open_conflicts = wired.ports.records.open_conflicts().await?;
    let absent = wired.ports.records.absence_counts(jiff::Timestamp::now().into()).await?;
    let suspicion = wired.ports.records.suspicion().await?;
    let (unread, pending, dead) = (depth.unread, depth.pending, depth.dead);
    let Wired { roles, installed, .. } = wired;
    Ok(Resting {
        running: false,
        roles,
        installation: installed,
        unread,
        pending,
        dead,
        open_conflicts,
        pending_writes,
        chunks,
        absent,
        suspicion,
    })
}

fn resting_text(resting: &Resting, listen: SocketAddr) -> String {
    let rows = resting.chunks.iter().map(|(target, chunks)| {
        let pending_writes = resting.pending_writes.get(target).copied().unwrap_or_default();
        vec![target.to_string(), output::number(*chunks), output::number(pending_writes)]
    });
    let waiting = resting.unread + resting.pending;
    let absent = match resting.absent.noted {
        0 => String::new(),
        noted => format!("{} without a row; `chunk-sync verify` lists them\n", output::count(noted, "chunk")),
    };
    let suspicion = resting.suspicion.as_ref().map(|suspicion| format!("{}\n", suspicion.text)).unwrap_or_default();
    format!(
        "no service listens on {listen}; {}\n{}{suspicion}{absent}queue: {} waiting, {}\n{}\n{}",
        resting.roles,
        not_filled(resting.installation.filling.iter()),
        output::count(waiting, "event"),
        output::count(resting.dead, "dead letter"),
        conflicts(resting.open_conflicts),
        output::table(&["store", "chunks", "outbox"], rows)
    )
}

/// One line per store that is not filled yet.
fn not_filled<'a>(targets: impl Iterator<Item = &'a Target>) -> String {
    targets.map(|target| format!("{target} is new and not filled yet; `chunk-sync run` fills it\n")).collect()
}

fn conflicts(open: u64) -> String {
    match open {
        0 => "conflicts: none open".to_owned(),
        open => {
            format!("conflicts: {} open; `chunk-sync conflicts list --open` lists them", output::number(open))
        }
    }
}

fn text(status: &Status, listen: SocketAddr) -> String {
    let mut lines = vec![format!(
        "{} {} on {listen}, {}, up {:.0} s",
        if status.ready { "ready" } else { "not ready" },
        status.version,
        status.roles,
        status.uptime_seconds
    )];
    lines.extend(status.waiting_for.iter().map(|reason| format!("waiting: {}", output::printable(reason))));
    lines.extend(status.warnings.iter().map(|warning| format!("warning: {}", output::printable(warning))));
    lines.extend(status.capture.as_ref().map(|capture| output::printable(&capture.text()).to_string()));
    if let Some(queue) = &status.queue {
        let oldest = queue.oldest_seconds.map_or_else(String::new, |age| format!(", the oldest {age:.1} s old"));
        lines.push(format!(
            "queue: {} unread, {} pending{oldest}; {}",
            output::number(queue.unread),
            output::number(queue.pending),
            output::count(queue.dead, "dead letter")
        ));
    }
    lines.push(format!(
        "since the start: {} completed, {} replayed, {}",
        output::count(status.done.settled, "event"),
        output::number(status.done.replayed),
        output::count(status.done.conflicts, "conflict")
    ));
    lines.extend(status.open_conflicts.map(conflicts));
    let rows = status.stores.iter().map(|store| {
        let pending_writes = store.outbox.map_or_else(|| "?".to_owned(), output::number);
        vec![store.target.to_string(), pending_writes, condition(store.failing.as_ref(), store.behind)]
    });
    lines.push(output::table(&["store", "outbox", "condition"], rows));
    lines.push(match &status.verification {
        Some(last) => verification(last),
        None => "not verified since the start".to_owned(),
    });
    lines.extend(status.unknown.iter().map(|unknown| format!("unknown: {}", output::printable(unknown))));
    lines.join("\n")
}

fn verification(last: &Verification) -> String {
    let chunks = output::count(last.chunks, "chunk");
    let mut text = format!("last verified {}: {} of {chunks} consistent", last.at, output::percent(last.consistency));
    if last.repaired > 0 {
        text.push_str(&format!(", {} repaired since", output::number(last.repaired)));
    }
    if last.undecided > 0 {
        let undecided = output::number(last.undecided);
        text.push_str(&format!(", {undecided} undecided; `chunk-sync verify --dry-run` shows why"));
    }
    text
}

fn condition(failing: Option<&Failing>, behind: bool) -> String {
    match (failing, behind) {
        (Some(failing), _) => format!("failing since {}: {}", failing.since, output::printable(&failing.fault)),
        (None, true) => "draining its outbox".to_owned(),
        (None, false) => "ok".to_owned(),
    }
}
