//! How the service is doing, in one document: `/v1/status` answers it, the status page draws it, and `status` prints it.
//! It is gathered here and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_connectors::embedded::EmbeddedFile;
use chunk_sync_engine::ports::{Depth, Fault, Installed};
use chunk_sync_engine::scrub::Scrubbed;
use chunk_sync_engine::{Condition, FillState, Filled, Health, Ports, Role, Service};
use chunk_sync_model::{Target, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long the bus and the system of record may take to say how much waits: whoever looks is told what else is known.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the service is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the service.
    pub version: String,
    /// Where each role is kept.
    pub roles: String,
    /// What is recorded of the installation.
    pub installation: Installation,
    /// When it was started.
    pub started: Time,
    /// How long ago that is.
    pub uptime_seconds: f64,
    /// `active`, or `standby` while another process works the stream.
    #[serde(default)]
    pub role: String,
    /// Host and process id of that other process.
    #[serde(default)]
    pub holder: Option<String>,
    /// Whether this process does what it is there for: it carries events, or stands by.
    pub ready: bool,
    /// Why not; empty where it is ready.
    pub waiting_for: Vec<String>,
    /// What was found in the log at the start; absent until that has been replayed.
    pub recovered: Option<Recovered>,
    /// Stores that are new in the installation, and how far each is filled.
    #[serde(default)]
    pub filling: BTreeMap<Target, Filled>,
    /// What hinders the service without stopping it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What waits on the bus; absent where the bus does not say, see `unknown`.
    pub queue: Option<Queue>,
    /// The stores, the system of record first.
    pub stores: Vec<Store>,
    /// Conflicts that wait for a person; absent where that is not known.
    #[serde(default)]
    pub open_conflicts: Option<u64>,
    /// What has been done since the start.
    pub done: Done,
    /// The last verification; absent where none was made since the start.
    pub verification: Option<Verification>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// What is recorded of the installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Installation {
    /// Marks its servers.
    pub id: Uuid,
    /// The version of its set of stores.
    pub version: u64,
}

/// What was found in the log at the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// Operations carried again.
    pub replayed: u64,
    /// Operations whose entries the bus still answers for: finished elsewhere, or handed out again.
    #[serde(default)]
    pub on_bus: u64,
    /// Operations set aside, for no start came to the end of them.
    #[serde(default)]
    pub given_up: u64,
    /// Operations that can no longer be read as events.
    pub unreadable: u64,
    /// Damaged lines set aside.
    pub damaged: u64,
    /// Whether the last line was torn.
    pub torn: bool,
}

/// What waits on the bus.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Entries that nobody has read yet.
    pub unread: u64,
    /// Entries read, not yet acknowledged.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Age of the oldest entry that is not finished.
    pub oldest_seconds: Option<f64>,
}

/// How one store is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    /// Which.
    pub target: Target,
    /// Its fault, while it fails.
    pub failing: Option<Failing>,
    /// Whether what is merged now is recorded as its debt.
    pub owing: bool,
    /// Chunks that it has yet to be told; absent where that is not known.
    pub debts: Option<u64>,
}

/// What is wrong with a store, and since when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failing {
    /// Since when.
    pub since: Time,
    /// The class of the last fault.
    pub class: String,
    /// The last fault.
    pub fault: String,
}

/// What has been done since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Events settled.
    pub settled: u64,
    /// Events read and not yet settled.
    pub under_way: u64,
    /// Parts on which two writers met.
    pub conflicts: u64,
    /// Events replayed from the log.
    pub replayed: u64,
}

/// A verification, without the list of what differs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// When it ended.
    pub at: Time,
    /// Nothing differed.
    pub consistent: bool,
    /// Ids in any store or living record.
    pub chunks: u64,
    /// Chunks equal in all stores, in per cent of them.
    pub consistency: f64,
    /// How long it took.
    pub seconds: f64,
    /// Chunks that differed and were mended.
    #[serde(default)]
    pub repaired: u64,
    /// Chunks that differed and that a person must decide on.
    #[serde(default)]
    pub undecided: u64,
    /// What each store had, and what was wrong with it.
    pub stores: BTreeMap<Target, Verdict>,
}

/// What verification found of one store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Chunks in it.
    pub count: u64,
    /// Chunks that it should have and had not.
    pub missing: u64,
    /// Chunks that it had and should not have.
    pub orphaned: u64,
    /// Chunks that it had otherwise than it should.
    pub different: u64,
    /// Chunks that it had in an older version.
    pub stale: u64,
}

/// The last verification of this process: whoever verifies puts it there, whoever shows the status looks.
#[derive(Clone, Debug, Default)]
pub struct LastVerification(Arc<Mutex<Option<Verification>>>);

impl LastVerification {
    /// Takes note of a verification that has just ended.
    pub fn note(&self, scrubbed: &Scrubbed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Verification::of(scrubbed, now()));
    }

    fn get(&self) -> Option<Verification> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is asked for the status.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// Where each role is kept.
    pub roles: &'a str,
    /// What is recorded of the installation.
    pub installed: &'a Installed,
    /// The stores that are being filled.
    pub filling: &'a FillState,
    /// The embedded file, if rows and records are in one.
    pub file: Option<&'a EmbeddedFile>,
    /// The service.
    pub service: &'a Service,
    /// Its bus and its system of record.
    pub ports: &'a Ports,
    /// The last verification.
    pub verified: &'a LastVerification,
}

impl Status {
    /// Asks everything that knows something. Never fails and never waits long: what cannot be found out is said.
    pub async fn gather(observed: Observed<'_>, started: Time) -> Self {
        let Observed { service, ports, verified, .. } = observed;
        let (now, filling) = (now(), observed.filling.get());
        let (depth, oldest, debts, open_conflicts) = tokio::join!(
            asked("the queue", ports.bus.depth()),
            asked("the oldest entry", ports.bus.oldest_at()),
            asked("the debts of the stores", ports.records.debt_counts()),
            asked("the open conflicts", ports.records.open_conflicts())
        );
        let health = service.health();
        let unknown =
            [depth.as_ref().err(), oldest.as_ref().err(), debts.as_ref().err(), open_conflicts.as_ref().err()];
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
            ready: is_ready(&health, &filling),
            waiting_for: waiting_for(&health, &filling),
            filling,
            warnings: warnings(observed.file.cloned()).await,
            recovered: health.recovered.as_ref().map(Recovered::of),
            queue: depth.ok().map(|depth| Queue::of(depth, oldest.ok().flatten(), now)),
            stores: stores(&health, debts.ok().as_ref()),
            open_conflicts: open_conflicts.ok(),
            done: Done::of(health.done),
            verification: verified.get(),
            unknown,
        }
    }
}

/// Whether events are carried into every store, and every store holds everything.
pub(crate) fn is_ready(health: &Health, filling: &BTreeMap<Target, Filled>) -> bool {
    health.is_ready() && filling.is_empty()
}

/// What other programs do to the embedded file.
async fn warnings(file: Option<EmbeddedFile>) -> Vec<String> {
    let Some(file) = file else {
        return Vec::new();
    };
    let strains = tokio::task::spawn_blocking(move || file.strains()).await.unwrap_or_default();
    strains.into_iter().map(|strain| format!("{}: {}", strain.text, strain.remedy)).collect()
}

/// How far the filling of a store has come.
fn being_filled((target, filled): (&Target, &Filled)) -> String {
    let Filled { published, rows, comparing, fault } = filled;
    let how = if *comparing { "is compared".to_owned() } else { format!("{published} of {rows} rows are published") };
    let fault = fault.as_ref().map_or_else(String::new, |fault| format!("; tried again after: {fault}"));
    format!("{target} is new and being filled: {how}{fault}")
}

/// Why events are not being carried into every store; empty where they are.
pub(crate) fn waiting_for(health: &Health, filling: &BTreeMap<Target, Filled>) -> Vec<String> {
    if health.stands_by() && health.ended.is_none() {
        return Vec::new();
    }
    let ended = health.ended.as_ref().map(|result| match result {
        Ok(()) => "the worker has been stopped".to_owned(),
        Err(fault) => format!("the worker had to stop; restart the service once this is mended: {fault}"),
    });
    let records = health
        .records
        .as_ref()
        .map(|(_, fault)| format!("the system of record fails, and merging waits for it: {fault}"));
    let replay = (health.recovered.is_none() && ended.is_none())
        .then(|| "the write-ahead log of the last run is being replayed".to_owned());
    let held = health.held.as_ref().map(|(since, fault)| format!("held back since {since}: {fault}"));
    let filling = filling.iter().map(being_filled);
    [replay, ended, records, held].into_iter().flatten().chain(filling).collect()
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

/// How each store is doing, the system of record first; `debts` where they are known.
pub(crate) fn stores(health: &Health, debts: Option<&BTreeMap<Target, u64>>) -> Vec<Store> {
    let owed = |target| debts.map(|debts| debts.get(target).copied().unwrap_or_default());
    let records = Condition::of(health.records.clone());
    std::iter::once(&(Target::Postgres, records))
        .chain(&health.stores)
        .map(|(target, condition)| Store {
            target: *target,
            failing: condition.failing.as_ref().map(Failing::of),
            owing: condition.owing,
            debts: owed(target),
        })
        .collect()
}

impl Failing {
    fn of((since, fault): &(Time, Fault)) -> Self {
        Self { since: *since, class: fault.class.as_str().to_owned(), fault: fault.to_string() }
    }
}

impl Recovered {
    fn of(recovered: &chunk_sync_engine::Recovered) -> Self {
        Self {
            replayed: recovered.replayed,
            on_bus: recovered.on_bus,
            given_up: recovered.given_up,
            unreadable: recovered.unreadable,
            damaged: recovered.damaged,
            torn: recovered.torn,
        }
    }
}

impl Queue {
    /// `oldest` is when the oldest unfinished entry was added, by the bus's clock.
    fn of(depth: Depth, oldest: Option<Time>, now: Time) -> Self {
        Self {
            unread: depth.unread,
            pending: depth.pending,
            dead: depth.dead,
            oldest_seconds: oldest.map(|oldest| now.seconds_since(oldest).max(0.0)),
        }
    }
}

impl Done {
    fn of(done: chunk_sync_engine::Done) -> Self {
        Self { settled: done.settled, under_way: done.under_way, conflicts: done.conflicts, replayed: done.replayed }
    }
}

impl Verification {
    fn of(scrubbed: &Scrubbed, at: Time) -> Self {
        let report = &scrubbed.report;
        let verdict = |store: &chunk_sync_engine::verify::StoreReport| Verdict {
            count: store.count,
            missing: store.missing,
            orphaned: store.orphaned,
            different: store.different,
            stale: store.stale,
        };
        Self {
            at,
            consistent: report.consistent,
            chunks: report.chunks,
            consistency: report.consistency,
            seconds: report.seconds,
            repaired: scrubbed.repaired,
            undecided: scrubbed.undecided,
            stores: report.stores.iter().map(|(target, store)| (*target, verdict(store))).collect(),
        }
    }
}
