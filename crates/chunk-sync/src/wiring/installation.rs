//! The installation: the recorded set of stores, and the id that marks every server.
//!
//! # Crash of `init`
//! `init` first checks every mark, then creates the tables, records the set, prepares the servers, and marks them last. A
//! crash after the set is recorded leaves servers without a mark: `run` uses them and logs a warning, and the next `init`
//! marks them. A store that is in the recorded set and carries no mark may not be the store that was filled: `init` has it
//! filled again, which changes nothing if it already holds everything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_engine::ports::{
    Fault, FaultClass, Installation, Installed, Marked, RecordedTable, Records, StoreSet, Suspicion, check_mark,
};
use chunk_sync_model::{SyncVersion, Target, Time};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Access, Opened, Purpose, blocking, stores};
use crate::config::{Config, Roles};

const CONTEXT: &str = "installation";

/// How far the clock of a process may be ahead: an event further ahead is rejected.
const CLOCK_BOUND: Duration = Duration::from_secs(300);

/// Returns the recorded installation, after checking that its set of stores is the configured one and that every server that
/// answers belongs to it. Records the installation if all roles are embedded and nothing is recorded.
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured) if nothing is recorded, the sets differ, or a server carries another
/// installation's id; any fault of the system of record.
pub(super) async fn check(opened: &Opened, roles: &Roles, purpose: Purpose) -> Result<Installed, Fault> {
    let named = stores::named(roles);
    let Some(installed) = opened.rows.installation.installed().await? else {
        if roles.is_embedded() {
            return begin(&*opened.rows.installation, named).await;
        }
        // A server of another installation is reported first: running `init` would not help.
        check_marks(opened, None, purpose).await?;
        let message = "no installation is recorded for this configuration; run `chunk-sync init`";
        return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
    };
    check_set(&installed, &named)?;
    check_marks(opened, Some(installed.id), purpose).await?;
    Ok(installed)
}

/// Returns an error if the configured set of stores differs from the recorded one.
fn check_set(installed: &Installed, named: &StoreSet) -> Result<(), Fault> {
    if installed.stores == *named {
        return Ok(());
    }
    let message = format!(
        "this configuration names {named}, and the installation has {} (set {}); {}",
        installed.stores,
        installed.version,
        remedy(&installed.stores, named)
    );
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

fn remedy(recorded: &StoreSet, named: &StoreSet) -> String {
    let (new, gone) = (named.beyond(recorded), recorded.beyond(named));
    let gone: Vec<_> = gone.difference(&new).collect();
    match gone.first() {
        None => "run `chunk-sync init` to add what is new".to_owned(),
        Some(target) => format!(
            "set {target}.url in this configuration, or run `chunk-sync init --without {target}` to remove the store from \
             the installation"
        ),
    }
}

pub(super) async fn check_marks(opened: &Opened, id: Option<Uuid>, purpose: Purpose) -> Result<(), Fault> {
    for marked in marked(opened) {
        match check_mark(&*marked, id).await {
            Ok(true) => {}
            Ok(false) if id.is_some() && purpose == Purpose::Run => {
                warn!(
                    "{} does not carry the id of this installation; run `chunk-sync init` to mark it",
                    marked.place()
                );
            }
            Ok(false) => {}
            // The mark of a server that does not answer is checked again before the first write.
            Err(fault) if fault.class == FaultClass::Misconfigured => return Err(fault),
            Err(fault) if purpose == Purpose::Run => {
                warn!(%fault, "cannot read the installation id of {}; it is checked before the first write", marked.place());
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn marked(opened: &Opened) -> Vec<Arc<dyn Marked>> {
    let stores = opened.stores.iter().filter_map(|store| store.marked.clone());
    opened.bus.marked.clone().into_iter().chain(stores).collect()
}

/// Records a new installation with its first set of stores.
async fn begin(installation: &dyn Installation, stores: StoreSet) -> Result<Installed, Fault> {
    let floor = SyncVersion::default();
    let new = Installed { id: Uuid::new_v4(), version: 1, stores, filling: BTreeSet::new(), floor };
    match installation.record(None, &new).await {
        Ok(()) => Ok(new),
        // A concurrent command recorded it first.
        Err(fault) if fault.class == FaultClass::Busy => installation.installed().await?.ok_or(fault),
        Err(fault) => Err(fault),
    }
}

/// `init`: creates what is missing, records the set of stores without those in `without`, and marks the servers.
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured) if a server belongs to another installation, a recorded store is missing in
/// both the configuration and `without`, a store in `without` is still configured, or records would have to move from the
/// embedded file to PostgreSQL; any fault of a role.
pub(crate) async fn install(config: &Config, without: &[Target], adopt: bool) -> Result<Installed, Fault> {
    let roles = &config.roles;
    refuse_named(roles, without)?;
    let opened = Opened::of(config, Access::Create, "init").await?;
    let installation = Arc::clone(&opened.rows.installation);
    let before = installation.installed().await?;
    let mut unmarked = BTreeSet::new();
    for marked in marked(&opened) {
        check_mark(&*marked, before.as_ref().map(|before| before.id)).await?;
    }
    for store in &opened.stores {
        if let Some(marked) = &store.marked
            && marked.marks().await?.is_some_and(|marks| marks.is_empty())
        {
            unmarked.insert(store.store.target());
        }
    }
    if before.is_none() {
        refuse_a_move(config, &*installation).await?;
    }
    if before.is_some() && !adopt {
        refuse_another_table(&*opened.rows.records).await?;
    }
    opened.rows.records.prepare().await?;
    let floor = adopt.then(floor);
    let installed = record(&*installation, before, stores::named(roles), without, &unmarked, floor).await?;
    // After the new version is recorded, no process merges with the old floor.
    opened.rows.records.record_table(adopt).await?;
    if adopt {
        // Without the values that were noted after the backup the adopted database would count as restored again.
        for place in opened.heartbeats(config) {
            if let Some(noted) = place.noted().await? {
                opened.rows.records.note_heartbeat(noted.value).await?;
            }
        }
    }
    for store in &opened.stores {
        store.store.prepare().await?;
    }
    opened.bus.port.prepare().await?;
    if let Some(capture) = &opened.rows.capture {
        capture.prepare().await?;
    }
    for marked in marked(&opened) {
        marked.set_mark(installed.id).await?;
        // If two `init` run concurrently, at least the later one sees both marks.
        check_mark(&*marked, Some(installed.id)).await?;
    }
    Ok(installed)
}

/// Records the configured set, unless it is recorded already.
async fn record(
    installation: &dyn Installation,
    before: Option<Installed>,
    named: StoreSet,
    without: &[Target],
    unmarked: &BTreeSet<Target>,
    floor: Option<SyncVersion>,
) -> Result<Installed, Fault> {
    let Some(before) = before else {
        return begin(installation, named).await;
    };
    let mut new = changed(&before, named, without, unmarked)?;
    if let Some(floor) = floor {
        // Another version ends every process that assigns versions with the old floor.
        new.version = before.version + 1;
        new.floor = floor.max(before.floor);
    }
    if new != before {
        installation.record(Some(before.version), &new).await?;
        info!(stores = %new.stores, version = new.version, "recorded the set of stores");
    }
    Ok(new)
}

/// Computes the new set. A store that is new, or that is recorded and carries no mark, will be filled.
fn changed(
    before: &Installed,
    named: StoreSet,
    without: &[Target],
    unmarked: &BTreeSet<Target>,
) -> Result<Installed, Fault> {
    let mut kept = before.stores.clone();
    kept.0.retain(|target, _| !without.contains(target));
    let new = named.beyond(&kept);
    if kept.beyond(&named).difference(&new).next().is_some() {
        check_set(&Installed { stores: kept.clone(), ..before.clone() }, &named)?;
    }
    let mut filling: BTreeSet<Target> = before.filling.union(&new).copied().collect();
    filling.extend(unmarked.iter().filter(|target| before.stores.0.contains_key(target)));
    filling.retain(|target| named.0.contains_key(target));
    let same = named == before.stores && filling == before.filling;
    let version = if same { before.version } else { before.version + 1 };
    Ok(Installed { id: before.id, version, stores: named, filling, floor: before.floor })
}

/// The floor of sync versions after a restore: above every version that was assigned before it, by a process whose clock
/// was ahead by no more than the bound.
fn floor() -> SyncVersion {
    let ahead = i64::try_from(CLOCK_BOUND.as_micros()).unwrap_or(i64::MAX);
    let now: Time = jiff::Timestamp::now().into();
    SyncVersion::default().next(Time::from_micros(now.micros().saturating_add(ahead)))
}

/// Returns an error if the table is not the one on record: `init` would create an empty one in place of a lost one.
async fn refuse_another_table(records: &dyn Records) -> Result<(), Fault> {
    let suspicion = match records.suspicion().await? {
        Some(suspicion) => Some(suspicion),
        None => match records.check_table().await? {
            RecordedTable::Suspect(suspicion) => Some(suspicion),
            RecordedTable::Same | RecordedTable::NewPartitions(_) => None,
        },
    };
    let Some(suspicion) = suspicion else { return Ok(()) };
    let message = format!("{}; {}", suspicion.text, Suspicion::REMEDY);
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

/// Returns an error if the configuration still names a store that is to be removed.
fn refuse_named(roles: &Roles, without: &[Target]) -> Result<(), Fault> {
    let named = stores::named(roles);
    let Some(target) = without.iter().find(|target| named.0.contains_key(target)) else {
        return Ok(());
    };
    let message = if roles.is_embedded() {
        format!("the embedded stores include {target}, and no embedded store can be removed")
    } else {
        format!("{target}.url is set; remove it from the configuration of every process, then repeat this command")
    };
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

/// Returns an error if PostgreSQL is configured and new, while the embedded file holds records: records cannot be moved.
async fn refuse_a_move(config: &Config, installation: &dyn Installation) -> Result<(), Fault> {
    let roles = &config.roles;
    if roles.postgres.is_none() || !installation.is_fresh().await? {
        return Ok(());
    }
    let (dir, limits) = (roles.dir.clone(), Arc::new(config.settings.limits.clone()));
    let Ok(file) = blocking(move || Embedded::open_existing(&dir, limits, MAX_BACKLOG)).await else {
        return Ok(());
    };
    if file.rows.is_fresh().await? {
        return Ok(());
    }
    let message = format!(
        "the records of an installation are in {}, and records cannot be moved to PostgreSQL; set another embedded.dir to \
         begin a new installation in PostgreSQL, or remove postgres.url to continue with the existing one",
        roles.dir.display()
    );
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

#[cfg(test)]
mod tests;
