//! The troubles of the field: a store that goes back to a backup. It strikes while the systems publish, and the service
//! has brought the store forward when the stores are compared.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_samples::rng::Rng;
use tokio::time::sleep;

use super::world::World;

/// What goes wrong in a run beside the faults of calls and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A store goes back to an earlier state.
    RestoredStore,
}

/// Distinguishes the drawing of troubles.
pub(super) const TROUBLES: u64 = 0x7206_b1e5;

/// Lets the trouble of the run strike once or several times.
pub(super) async fn strike(world: Arc<World>, mut rng: Rng) {
    let Some(trouble) = world.scenario.trouble else { return };
    let most = world.scenario.changes * world.scenario.gap;
    for _ in 0..=rng.below(3) {
        sleep(Duration::from_millis(rng.below(most) as u64)).await;
        world.tally(|tally| tally.troubles += 1);
        match trouble {
            Trouble::RestoredStore => {
                let store = &world.bare[rng.below(world.bare.len())];
                let backup = store.backup();
                sleep(Duration::from_millis(rng.below(most) as u64)).await;
                store.restore(backup);
            }
        }
    }
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
