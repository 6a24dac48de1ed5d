//! What makes the roles one installation: the recorded set of stores, and the id that marks every server.
//!
//! # What a crash of `init` does
//! It checks every mark first, then creates the tables, records the set, prepares the servers and marks them last. A crash
//! after the set is recorded leaves servers without a mark: `run` works with them and warns, and the next `init` marks
//! them. A store that is in the recorded set and carries no mark may be another one than the one that was filled:
//! it is filled again, which changes nothing where it holds everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_engine::ports::{Fault, FaultClass, Installation, Installed, Marked, StoreSet, check_mark};
use chunk_sync_model::Target;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Access, Opened, Purpose, blocking, stores};
use crate::config::{Config, Roles};

const CONTEXT: &str = "installation";

/// What is recorded, if it is this configuration's and every server that answers belongs to it.
pub(super) async fn check(opened: &Opened, roles: &Roles, purpose: Purpose) -> Result<Installed, Fault> {
    let named = stores::named(roles);
    let Some(installed) = opened.rows.installation.installed().await? else {
        if roles.is_embedded() {
            return begin(&*opened.rows.installation, named).await;
        }
        // Another installation's server is worth more words than a missing `init`.
        check_marks(opened, None, purpose).await?;
        let message = "nothing is installed with this configuration yet: run `chunk-sync init`";
        return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
    };
    check_set(&installed, &named)?;
    check_marks(opened, Some(installed.id), purpose).await?;
    Ok(installed)
}

/// Refuses a configuration that names other stores than those that are recorded.
fn check_set(installed: &Installed, named: &StoreSet) -> Result<(), Fault> {
    if installed.stores == *named {
        return Ok(());
    }
    let message = format!(
        "this configuration names {named}, and the installation has {} (set {}): {}",
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
            "set {target}.url in this configuration, or run `chunk-sync init --without {target}` if the installation is \
             to have it no more"
        ),
    }
}

async fn check_marks(opened: &Opened, id: Option<Uuid>, purpose: Purpose) -> Result<(), Fault> {
    for marked in marked(opened) {
        match check_mark(&*marked, id).await {
            Ok(true) => {}
            Ok(false) if id.is_some() && purpose == Purpose::Run => {
                warn!("{} has no mark of this installation: `chunk-sync init` puts it there", marked.place());
            }
            Ok(false) => {}
            // What does not answer is asked again before it is first written to.
            Err(fault) if fault.class == FaultClass::Misconfigured => return Err(fault),
            Err(fault) if purpose == Purpose::Run => warn!(%fault, "{} cannot be asked for its mark", marked.place()),
            Err(_) => {}
        }
    }
    Ok(())
}

fn marked(opened: &Opened) -> Vec<Arc<dyn Marked>> {
    let stores = opened.stores.iter().filter_map(|store| store.marked.clone());
    opened.bus.marked.clone().into_iter().chain(stores).collect()
}

/// Records the first set of an installation.
async fn begin(installation: &dyn Installation, stores: StoreSet) -> Result<Installed, Fault> {
    let new = Installed { id: Uuid::new_v4(), version: 1, stores, filling: BTreeSet::new() };
    match installation.record(None, &new).await {
        Ok(()) => Ok(new),
        // Two commands at once: the other one was first.
        Err(fault) if fault.class == FaultClass::Busy => installation.installed().await?.ok_or(fault),
        Err(fault) => Err(fault),
    }
}

/// `init`: creates what is missing, records the set of stores, and marks the servers; without the stores that are named.
pub(crate) async fn install(config: &Config, without: &[Target]) -> Result<Installed, Fault> {
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
    opened.rows.records.prepare().await?;
    let installed = record(&*installation, before, stores::named(roles), without, &unmarked).await?;
    for store in &opened.stores {
        store.store.prepare().await?;
    }
    opened.bus.port.prepare().await?;
    if let Some(capture) = &opened.rows.capture {
        capture.prepare().await?;
    }
    for marked in marked(&opened) {
        marked.set_mark(installed.id).await?;
        // Two at the same moment: at least the later one finds both.
        check_mark(&*marked, Some(installed.id)).await?;
    }
    Ok(installed)
}

/// Records the set that is named, unless it is recorded already.
async fn record(
    installation: &dyn Installation,
    before: Option<Installed>,
    named: StoreSet,
    without: &[Target],
    unmarked: &BTreeSet<Target>,
) -> Result<Installed, Fault> {
    let Some(before) = before else {
        return begin(installation, named).await;
    };
    let new = changed(&before, named, without, unmarked)?;
    if new != before {
        installation.record(Some(before.version), &new).await?;
        info!(stores = %new.stores, version = new.version, "the set of stores is recorded");
    }
    Ok(new)
}

/// What is recorded from now on; a store that is new, or that carries no mark, is filled.
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
    Ok(Installed { id: before.id, version, stores: named, filling })
}

/// A store cannot be removed as long as the configuration names it.
fn refuse_named(roles: &Roles, without: &[Target]) -> Result<(), Fault> {
    let named = stores::named(roles);
    let Some(target) = without.iter().find(|target| named.0.contains_key(target)) else {
        return Ok(());
    };
    let message = if roles.is_embedded() {
        format!("the embedded stores include {target}, and no embedded store can be removed")
    } else {
        format!("{target}.url is set: take it out of the configuration of every process, then repeat this command")
    };
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

/// The records of an installation stay where they began.
async fn refuse_a_move(config: &Config, installation: &dyn Installation) -> Result<(), Fault> {
    let roles = &config.roles;
    if roles.postgres.is_none() || !installation.is_fresh().await? {
        return Ok(());
    }
    let (dir, limits) = (roles.dir.clone(), Arc::new(config.settings.limits.clone()));
    let Ok(file) = blocking(move || Embedded::open_existing(&dir, limits, 0)).await else {
        return Ok(());
    };
    if file.rows.is_fresh().await? {
        return Ok(());
    }
    let message = format!(
        "the records of an installation are in {}, and records cannot be moved to PostgreSQL: name another embedded.dir \
         to begin a new installation in PostgreSQL, or take postgres.url out to go on with the old one",
        roles.dir.display()
    );
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use chunk_sync_engine::ports::Kept;

    use super::*;

    fn set(stores: &[Target]) -> StoreSet {
        StoreSet(stores.iter().map(|target| (*target, Kept::Server)).collect::<BTreeMap<_, _>>())
    }

    fn installed(stores: &[Target]) -> Installed {
        Installed { id: Uuid::max(), version: 3, stores: set(stores), filling: BTreeSet::new() }
    }

    #[test]
    fn a_store_that_is_new_or_carries_no_mark_is_filled() {
        let before = installed(&[Target::Qdrant]);
        let both = set(&[Target::Qdrant, Target::Neo4j]);
        let new = changed(&before, both.clone(), &[], &BTreeSet::from([Target::Neo4j])).unwrap();
        assert_eq!((new.version, &new.filling), (4, &BTreeSet::from([Target::Neo4j])));
        let same = changed(&new, both.clone(), &[], &BTreeSet::new()).unwrap();
        assert_eq!(same, new, "safe to repeat");
        let lost = changed(&before, set(&[Target::Qdrant]), &[], &BTreeSet::from([Target::Qdrant])).unwrap();
        assert_eq!((lost.version, &lost.filling), (4, &BTreeSet::from([Target::Qdrant])));
    }

    #[test]
    fn a_store_goes_only_when_it_is_named() {
        let before = installed(&[Target::Qdrant, Target::Neo4j]);
        let one = set(&[Target::Qdrant]);
        let refused = changed(&before, one.clone(), &[], &BTreeSet::new()).unwrap_err().to_string();
        assert!(refused.contains("names qdrant, and the installation has qdrant, neo4j (set 3)"), "{refused}");
        assert!(refused.contains("init --without neo4j"), "{refused}");
        let new = changed(&before, one.clone(), &[Target::Neo4j], &BTreeSet::new()).unwrap();
        assert_eq!((new.version, new.stores), (4, one));
    }

    #[test]
    fn a_process_that_names_other_stores_is_refused_with_the_remedy() {
        let refusal = |named: &[Target]| check_set(&installed(&[Target::Qdrant]), &set(named)).unwrap_err().to_string();
        assert!(refusal(&[Target::Qdrant, Target::Neo4j]).contains("run `chunk-sync init` to add what is new"));
        assert!(refusal(&[]).contains("names no store beside the rows"));
        assert!(refusal(&[Target::Neo4j]).contains("qdrant.url"));
    }
}
