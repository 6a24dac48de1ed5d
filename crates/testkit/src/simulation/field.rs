//! What happens to the rows in the field: something hides some of them for a while, and they show again unchanged.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_samples::rng::Rng;
use tokio::time::sleep;
use uuid::Uuid;

use super::World;
use super::writers::chunk_id;

/// Rows are hidden for less than this, so that no second look takes them for deleted.
const HIDDEN_FOR: usize = 300_000;

/// Hides a part of the rows several times. All rows show again at the end.
pub(super) async fn hide_rows(world: Arc<World>, mut rng: Rng) {
    for _ in 0..world.scenario.hides {
        sleep(Duration::from_millis(rng.below(world.scenario.gap * 4) as u64)).await;
        let chunks = 0..world.scenario.chunks;
        let hidden: Vec<Uuid> = chunks.filter(|_| rng.one_in(2)).map(chunk_id).collect();
        world.rows.hide(hidden);
        sleep(Duration::from_millis(rng.below(HIDDEN_FOR) as u64)).await;
        world.rows.hide([]);
    }
}
