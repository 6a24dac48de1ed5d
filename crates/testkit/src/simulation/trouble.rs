//! The troubles of the field: rows that the service cannot see, a store that goes back to a backup. Each strikes while the
//! systems publish, and has passed when the stores are compared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_samples::rng::Rng;
use tokio::time::sleep;
use uuid::Uuid;

use super::faults::Endpoint;
use super::scenario::{SHARED, chunk_id};
use super::trace::trace;
use super::world::World;

/// What goes wrong in a run beside the faults of calls and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// For a while the service cannot see some rows.
    HiddenRows,
    /// A store goes back to an earlier state.
    RestoredStore,
}

/// Distinguishes the drawing of troubles.
pub(super) const TROUBLES: u64 = 0x7206_b1e5;

/// Lets the trouble of the run strike once or several times.
pub(super) async fn strike(world: Arc<World>, mut rng: Rng) {
    let Some(trouble) = world.scenario.trouble else { return };
    let most = world.scenario.changes * world.scenario.gap;
    for _ in 0..strikes(&world, &mut rng) {
        sleep(Duration::from_millis(rng.below(most) as u64)).await;
        world.tally(|tally| tally.troubles += 1);
        match trouble {
            Trouble::HiddenRows => hide(&world, &mut rng).await,
            Trouble::RestoredStore => {
                let store = &world.bare[rng.below(world.bare.len())];
                let backup = store.backup();
                sleep(Duration::from_millis(rng.below(most) as u64)).await;
                store.restore(backup);
            }
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

impl World {
    /// Verifies the stores as the operator would.
    pub(super) async fn verified(&self) -> Result<(), String> {
        let report = verify(&self.ports(), &Options::default(), &|_| {}).await.map_err(|fault| fault.to_string())?;
        match report.differences.first() {
            Some(difference) => Err(format!("verification finds {difference:?}")),
            None => Ok(()),
        }
    }
}
