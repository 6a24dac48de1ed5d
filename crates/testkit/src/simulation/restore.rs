//! PostgreSQL goes back to a backup: rows, records, notes and values of the guard. What was merged since is lost there and
//! still in the stores. Until the operator adopts the restored state, no store loses what only it has. From then on the
//! restored rows decide, a system publishes some of the lost events again, no version is used for a second state, and the
//! operator has the chunks deleted that only stores have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_sync_engine::Publisher;
use chunk_sync_engine::ports::{AbsenceLog as _, Gap, Heartbeats as _, Projection as _, SystemOfRecord as _};
use chunk_sync_engine::repair::{self, Orphans};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_model::{SyncVersion, Target};
use chunk_sync_samples::rng::Rng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::faults::Endpoint;
use super::world::World;
use super::writers::Author;
use crate::scan::scanned;

/// Whatever the faults, a restore is noticed within this time.
const NOTICED: Duration = Duration::from_secs(900);

/// Makes a backup, lets a system change chunks, restores the backup under faults, adopts it, and settles.
pub(super) async fn restore(world: &Arc<World>, author: Author, mut rng: Rng) -> Result<(), String> {
    rest(world).await?;
    let (backup, last, first) = (world.rows.snapshot(), world.oracle.last_entry(), author.count());
    let mut author = author.write(Arc::clone(world), world.publisher()).await;
    rest(world).await?;
    let before = world.heartbeats.noted().await.unwrap();
    until(world, "the guard notes no value", async || world.heartbeats.noted().await.unwrap() != before).await?;
    world.tally(|tally| tally.troubles += 1);
    world.is_restored.store(true, Ordering::Relaxed);
    world.faults.resume(world.scenario.rates.clone());
    world.faults.cut_off(Endpoint::Store(Target::Postgres), Duration::from_millis(rng.below(20_000) as u64));
    world.rows.restore(&backup);
    world.capture.miss(Gap::Failover);
    let only_there = only_there(world).await;
    world.oracle.restored((&backup, last), only_there).await;
    until(world, "the restore is not noticed", async || world.rows.suspicion().await.unwrap().is_some()).await?;
    // Several passes of the scrubber.
    sleep(Duration::from_millis(rng.below(600_000) as u64)).await;
    world.become_calm().await;
    world.oracle.verdict()?;
    world.oracle.adopted();
    world.adopt().await;
    author.publish_again(world, &*world.publisher(), first).await?;
    world.until_idle().await?;
    delete_orphans(world).await?;
    world.settle_without(None).await
}

/// Waits until the stores are equal and no event waits: waiting events do not go back with the rows.
async fn rest(world: &World) -> Result<(), String> {
    world.until_idle().await?;
    world.settle_without(None).await
}

/// Waits until it is so; an error if it takes too long, or the oracle has found a violation.
async fn until(world: &World, otherwise: &str, holds: impl AsyncFn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + NOTICED;
    while !holds().await {
        world.oracle.verdict()?;
        if Instant::now() > deadline {
            return Err(otherwise.to_owned());
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// The states in the stores that the restored records do not have, by their versions.
async fn only_there(world: &World) -> BTreeMap<(Target, Uuid), SyncVersion> {
    let mut only_there = BTreeMap::new();
    for store in &world.bare {
        let held = scanned(store).await;
        let ids: Vec<Uuid> = held.iter().map(|held| held.id).collect();
        let rows = world.rows.rows_of(&ids).await.unwrap();
        let newer = held
            .iter()
            .zip(rows)
            .filter(|(held, row)| held.version > row.as_ref().map(|row| row.version).unwrap_or_default());
        only_there.extend(newer.map(|(held, _)| ((store.target(), held.id), held.version)));
    }
    only_there
}

/// `verify --repair --orphans delete`.
async fn delete_orphans(world: &World) -> Result<(), String> {
    let ports = world.ports();
    let publisher = Publisher::new(Arc::clone(&ports.bus), Arc::new(world.scenario.settings.limits.clone()));
    let report = verify(&ports, &Options::default(), &|_| {}).await.map_err(|fault| fault.to_string())?;
    let steps = repair::plan(&report.findings, Orphans::Delete);
    let orphans = report.findings.iter().filter(|finding| finding.lives.is_none() && finding.row.is_none());
    world.oracle.known().deletions.give_up(orphans.map(|finding| finding.id));
    repair::publish(&ports, &publisher, &steps, &|_| {}).await.map_err(|fault| fault.to_string())?;
    Ok(())
}
