//! The status document of the service: `/v1/status` returns it, the status page renders it, and `status` prints it. It is
//! assembled here only.

pub mod capture;
mod shown;
mod verification;

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_sync_connectors::embedded::EmbeddedFile;
use chunk_sync_engine::absence::{GuardState, Guarded};
use chunk_sync_engine::ports::{BusCondition, Fault, Installed};
use chunk_sync_engine::{CaptureMonitor, Condition, FillState, Filled, Health, Ports, Role, Service};
use chunk_sync_model::{Target, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::shown::{Done, Failing, Queue, Recovered, Store};
pub use self::verification::{Differing, LastVerification, Verdict, Verification};

/// Time limit of each query to the bus and the system of record. A query that exceeds it appears under `unknown`; the rest
/// of the status is returned.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Where each role is kept, as text.
    pub roles: String,
    /// The recorded installation.
    pub installation: Installation,
    /// When the service started.
    pub started: Time,
    /// Seconds since `started`.
    pub uptime_seconds: f64,
    /// `active`, or `standby` while another process works the stream.
    #[serde(default)]
    pub role: String,
    /// Host and process id of the active process, if it is another one.
    #[serde(default)]
    pub holder: Option<String>,
    /// Whether the process stands by, or is active, writes events to every store and fills none.
    pub ready: bool,
    /// Reasons why the service is not ready; empty if it is.
    pub waiting_for: Vec<String>,
    /// What recovery found in the log at start; absent until the replay has ended.
    pub recovered: Option<Recovered>,
    /// Stores that are new in the installation, with the progress of filling each.
    #[serde(default)]
    pub filling: BTreeMap<Target, Filled>,
    /// Chunks without a row, and whether the table is the one on record.
    #[serde(default)]
    pub absent: Guarded,
    /// Conditions that impair the service but do not stop it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Capture of changes in PostgreSQL; absent if the rows are embedded.
    #[serde(default)]
    pub capture: Option<capture::Capture>,
    /// Entries on the bus; absent if the bus did not answer, see `unknown`.
    pub queue: Option<Queue>,
    /// One element per store, the system of record first.
    pub stores: Vec<Store>,
    /// Number of conflicts that wait for a decision of the operator; absent if the system of record did not answer.
    #[serde(default)]
    pub open_conflicts: Option<u64>,
    /// Counters since the start.
    pub done: Done,
    /// The last verification; absent if none has ended since the start.
    pub verification: Option<Verification>,
    /// Queries that failed or timed out, each with its error.
    pub unknown: Vec<String>,
}

/// The recorded installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Installation {
    /// The id that marks its servers.
    pub id: Uuid,
    /// Version of its set of stores: 1, 2, …
    pub version: u64,
}

/// The sources of the status.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// Where each role is kept.
    pub roles: &'a str,
    /// The recorded installation.
    pub installed: &'a Installed,
    /// Progress of the stores that are being filled.
    pub filling: &'a FillState,
    /// The absent rows, and whether the table is the one on record.
    pub guard: &'a GuardState,
    /// The embedded file, if rows and records are in one.
    pub file: Option<&'a EmbeddedFile>,
    /// The service.
    pub service: &'a Service,
    /// Its ports; the bus and the system of record are queried.
    pub ports: &'a Ports,
    /// The last verification.
    pub verified: &'a LastVerification,
    /// Capture, unless the rows are embedded.
    pub capture: Option<&'a CaptureMonitor>,
}

impl Status {
    /// Queries every source. Never fails, and waits at most 2 s: a query that fails or times out appears under `unknown`.
    pub async fn gather(observed: Observed<'_>, started: Time) -> Self {
        let Observed { service, ports, verified, .. } = observed;
        let (now, filling, guarded) = (now(), observed.filling.get(), observed.guard.get());
        let mut warnings = warnings(observed.file.cloned()).await;
        warnings.extend(guarded.warnings());
        let (depth, oldest, pending_writes, open_conflicts) = tokio::join!(
            asked("the queue", ports.bus.depth()),
            asked("the oldest entry", ports.bus.oldest_at()),
            asked("the outbox", ports.records.outbox_counts()),
            asked("the open conflicts", ports.records.open_conflicts())
        );
        let health = service.health();
        let capture = observed.capture.map(capture::Capture::of);
        let down = capture.as_ref().and_then(|capture| capture.is_down(now));
        let unknown =
            [depth.as_ref().err(), oldest.as_ref().err(), pending_writes.as_ref().err(), open_conflicts.as_ref().err()];
        let unknown = unknown.into_iter().flatten().cloned().collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: observed.roles.to_owned(),
            installation: Installation { id: observed.installed.id, version: observed.installed.version },
            started,
            uptime_seconds: now.seconds_since(started),
            role: if health.role == Role::Active { "active" } else { "standby" }.to_owned(),
            holder: match &health.role {
                Role::Standby { holder } if !holder.is_empty() => Some(holder.clone()),
                _ => None,
            },
            ready: is_ready(&health, &filling, &guarded) && down.is_none(),
            waiting_for: waiting_for(&health, &filling, &guarded).into_iter().chain(down).collect(),
            capture,
            filling,
            absent: guarded,
            warnings: warnings.into_iter().chain(health.entry_warning()).chain(of_bus(&health.bus)).collect(),
            recovered: health.recovered.as_ref().map(Recovered::of),
            queue: depth.ok().map(|depth| Queue::of(depth, oldest.ok().flatten(), now)),
            stores: stores(&health, pending_writes.ok().as_ref()),
            open_conflicts: open_conflicts.ok(),
            done: Done::of(health.done),
            verification: verified.get(),
            unknown,
        }
    }
}

/// Whether the worker writes events to every store, no store is being filled, and no deletion waits for the operator.
pub(crate) fn is_ready(health: &Health, filling: &BTreeMap<Target, Filled>, guarded: &Guarded) -> bool {
    health.is_ready() && filling.is_empty() && (guarded.complaints().is_empty() || health.stands_by())
}

/// Conditions that other programs cause on the embedded file, each with its remedy.
async fn warnings(file: Option<EmbeddedFile>) -> Vec<String> {
    let Some(file) = file else {
        return Vec::new();
    };
    let strains = tokio::task::spawn_blocking(move || file.strains()).await.unwrap_or_default();
    strains.into_iter().map(|strain| format!("{}: {}", strain.text, strain.remedy)).collect()
}

/// Conditions of the bus, each with its remedy.
fn of_bus(bus: &BusCondition) -> Vec<String> {
    let lost = (bus.lost > 0).then(|| {
        format!(
            "the bus lost {} entries before they were finished: captured changes were captured again, events of other \
             publishers are lost; see the log of `run`",
            bus.lost
        )
    });
    lost.into_iter().chain(bus.warnings.iter().cloned()).collect()
}

/// The progress of filling a store, as text.
fn being_filled((target, filled): (&Target, &Filled)) -> String {
    let Filled { published, rows, comparing, fault } = filled;
    let how = if *comparing { "comparing".to_owned() } else { format!("{published} of {rows} rows published") };
    let fault = fault.as_ref().map_or_else(String::new, |fault| format!("; retrying after: {fault}"));
    format!("{target} is new and being filled: {how}{fault}")
}

/// Reasons why the service is not ready; empty if it is.
pub(crate) fn waiting_for(health: &Health, filling: &BTreeMap<Target, Filled>, guarded: &Guarded) -> Vec<String> {
    if health.stands_by() && health.ended.is_none() {
        return Vec::new();
    }
    let ended = health.ended.as_ref().map(|result| match result {
        Ok(()) => "the worker has stopped".to_owned(),
        Err(fault) => format!("the worker had to stop: {fault}; fix the cause, then restart the service"),
    });
    let records = health
        .records
        .as_ref()
        .map(|(_, fault)| format!("the system of record fails, and merging waits for it: {fault}"));
    let replay = (health.recovered.is_none() && ended.is_none())
        .then(|| "the write-ahead log of the last run is being replayed".to_owned());
    let held = health.held.as_ref().map(|(since, fault)| format!("rejected events are held since {since}: {fault}"));
    let filling = filling.iter().map(being_filled);
    let full = health.waiting_full.clone();
    let clock = health.clock.as_ref().map(|(since, fault)| format!("merging has waited since {since}: {fault}"));
    let reasons = [replay, ended, records, held, full, clock];
    reasons.into_iter().flatten().chain(filling).chain(guarded.complaints()).collect()
}

fn now() -> Time {
    jiff::Timestamp::now().into()
}

async fn asked<T>(what: &str, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|fault| format!("{what}: {fault}")),
        Err(_) => Err(format!("{what}: no answer within {} s", PATIENCE.as_secs())),
    }
}

/// The state of each store, the system of record first. The second argument is the outbox size per store, if known.
pub(crate) fn stores(health: &Health, pending_writes: Option<&BTreeMap<Target, u64>>) -> Vec<Store> {
    let outbox = |target| pending_writes.map(|pending_writes| pending_writes.get(target).copied().unwrap_or_default());
    let records = Condition::of(health.records.clone());
    std::iter::once(&(Target::Postgres, records))
        .chain(&health.stores)
        .map(|(target, condition)| Store {
            target: *target,
            failing: condition.failing.as_ref().map(Failing::of),
            behind: condition.behind,
            outbox: outbox(target),
        })
        .collect()
}
