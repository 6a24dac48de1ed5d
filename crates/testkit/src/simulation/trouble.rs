//! The troubles of the field: rows that the service cannot see, another table under the name, a store that goes back to a
//! backup. Each strikes while the systems publish, and has passed, or was adopted, when the stores are compared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{
    AbsenceLog as _, Heartbeats as _, Installation as _, Installed, Kept, Row, StoreSet, SystemOfRecord as _,
    WaitingEvents as _,
};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_engine::{Publisher, absence};
use chunk_sync_model::{SyncVersion, Time};
use chunk_sync_samples::rng::Rng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::faults::Endpoint;
use super::plant::Trouble;
use super::scenario::{SHARED, chunk_id};
use super::trace::trace;
use super::world::{SOON, World};

/// Distinguishes the drawing of troubles.
pub(super) const TROUBLES: u64 = 0x7206_b1e5;

/// Lets the trouble of the run strike once or several times.
pub(super) async fn strike(world: Arc<World>, mut rng: Rng) {
    let Some(trouble) = world.scenario.trouble.filter(|trouble| *trouble != Trouble::RestoredRows) else { return };
    let most = world.scenario.changes * world.scenario.gap;
    for left in (0..strikes(&world, &mut rng)).rev() {
        sleep(Duration::from_millis(rng.below(most) as u64)).await;
        world.tally(|tally| tally.troubles += 1);
        match trouble {
            Trouble::HiddenRows => hide(&world, &mut rng).await,
            Trouble::SwappedTable => swap(&world, left == 0, &mut rng).await,
            Trouble::RestoredStore => {
                let store = &world.bare[rng.below(world.bare.len())];
                let backup = store.backup();
                sleep(Duration::from_millis(rng.below(most) as u64)).await;
                store.restore(backup);
            }
            Trouble::RestoredRows => {}
        }
    }
}

/// After a gap in capture, rows that are absent at two looks count as deleted: there, rows are hidden once.
fn strikes(world: &World, rng: &mut Rng) -> usize {
    let once = world.scenario.trouble == Some(Trouble::HiddenRows) && world.scenario.gaps;
    if once { 1 } else { 1 + rng.below(3) }
}

/// Hides some rows for a while. A store that was unreachable before gets the writes of hidden chunks meanwhile.
async fn hide(world: &World, rng: &mut Rng) {
    if rng.one_in(2) {
        let store = world.stores[rng.below(world.stores.len())].target();
        world.faults.cut_off(Endpoint::Store(store), Duration::from_millis(rng.below(120_000) as u64));
        sleep(Duration::from_millis(rng.below(60_000) as u64)).await;
    }
    let hidden = some_chunks(world, rng);
    hidden.iter().for_each(|id| trace(*id, || "hidden".into()));
    world.rows.hide(hidden.iter().copied());
    sleep(lasts(world, rng)).await;
    world.rows.hide([]);
    hidden.iter().for_each(|id| trace(*id, || "shown".into()));
}

/// Puts another table under the name for a while; the last time the operator may adopt it.
async fn swap(world: &World, last: bool, rng: &mut Rng) {
    let copied = some_chunks(world, rng);
    world.rows.swap_table(|id| copied.contains(&id));
    sleep(lasts(world, rng)).await;
    if last && rng.one_in(2) {
        world.oracle.known().deletions.give_up(world.rows.missing_rows());
        world.adopt().await;
    } else {
        world.rows.swap_back();
    }
}

/// Ids of some of the chunks of the run: about half of them, one, or none.
fn some_chunks(world: &World, rng: &mut Rng) -> BTreeSet<Uuid> {
    let numbers: Vec<usize> = (0..world.scenario.chunks).chain(SHARED).collect();
    match rng.below(4) {
        0 => BTreeSet::from([chunk_id(numbers[rng.below(numbers.len())])]),
        1 => BTreeSet::new(),
        _ => numbers.into_iter().filter(|_| rng.one_in(2)).map(chunk_id).collect(),
    }
}

/// How long it lasts. After a gap in capture, rows that stay absent for ten minutes by the clocks of the processes count
/// as deleted.
fn lasts(world: &World, rng: &mut Rng) -> Duration {
    let longest = if world.scenario.gaps { 500_000 } else { 1_500_000 };
    let most = [2_000, 60_000, longest][rng.below(3)];
    Duration::from_millis(rng.below(most) as u64)
}

/// What the operator does once a table was swapped: adopts the one that has the name, and has the chunks deleted whose rows
/// it lacks.
pub(super) async fn clear_up(world: &World) -> Result<(), String> {
    if world.scenario.trouble != Some(Trouble::SwappedTable) {
        return Ok(());
    }
    let adopted = world.rows.installed().await.unwrap().is_some_and(|installed| installed.version > 1);
    if let Some(suspicion) = world.rows.suspicion().await.unwrap().filter(|_| adopted) {
        return Err(format!("after the adoption the table is in doubt: {}", suspicion.text));
    }
    world.adopt().await;
    world.until_idle().await?;
    let lost = absent(world).await;
    if let Some(id) = lost.iter().find(|id| !world.oracle.known().deletions.is_given_up(**id)) {
        return Err(format!("{id} has no row, although the table on record is back"));
    }
    let ports = world.ports();
    let publisher = Publisher::new(Arc::clone(&ports.bus), Arc::new(world.scenario.settings.limits.clone()));
    let forced = absence::force(&ports, &publisher, &lost, world.now()).await.map_err(|fault| fault.to_string())?;
    match forced.suspended {
        Some(suspicion) => Err(format!("after the adoption nothing may be deleted: {}", suspicion.text)),
        None => Ok(()),
    }
}

/// The living chunks without a row that the service can see.
async fn absent(world: &World) -> Vec<Uuid> {
    let rows = world.rows.rows(None, usize::MAX).await.unwrap().rows;
    rows.into_iter().filter(Row::is_absent).map(|row| row.id).collect()
}

impl World {
    /// Waits until nothing is on the bus, and nothing waits.
    pub(super) async fn until_idle(&self) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        while !self.is_idle().await || !self.rows.waiting_counts().await.unwrap().is_empty() {
            if Instant::now() > deadline {
                return Err("work is still in progress, or waits".into());
            }
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    /// Records the installation, so that an adoption can change it.
    pub(super) async fn install(&self) {
        let stores = StoreSet(self.plant.stores.iter().map(|target| (*target, Kept::Server)).collect());
        let (filling, floor) = (BTreeSet::new(), SyncVersion::default());
        let installed = Installed { id: Uuid::max(), version: 1, stores, filling, floor };
        self.rows.record(None, &installed).await.unwrap();
    }

    /// `init --adopt`: another version of the set ends every process, then the table that has the name is on record.
    pub(super) async fn adopt(&self) {
        let before = self.rows.installed().await.unwrap().unwrap();
        let ahead = self.scenario.settings.limits.max_ahead_micros;
        let floor = SyncVersion::default().next(Time::from_micros(self.now().micros() + ahead));
        let installed = Installed { version: before.version + 1, floor, ..before.clone() };
        self.rows.record(Some(before.version), &installed).await.unwrap();
        self.rows.record_table(true).await.unwrap();
        if let Some(noted) = self.heartbeats.noted().await.unwrap() {
            self.rows.note_heartbeat(noted.value).await.unwrap();
        }
    }

    /// Verifies the stores as the operator would.
    pub(super) async fn verified(&self) -> Result<(), String> {
        let report = verify(&self.ports(), &Options::default(), &|_| {}).await.map_err(|fault| fault.to_string())?;
        match report.differences.first() {
            Some(difference) => Err(format!("verification finds {difference:?}")),
            None => Ok(()),
        }
    }
}
