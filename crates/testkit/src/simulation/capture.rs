//! The log of the system of record, seen through injected faults, and the foreign client that writes rows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, Opened, Position, Positions, Source};
use chunk_sync_model::{Body, Event, State};
use chunk_sync_samples::rng::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::scenario::SHARED;
use super::scenario::chunk_id;
use super::way::Way;
use super::world::World;
use super::writers::{first_view, forged_signal};

pub(super) struct FaultyCapture {
    pub(super) capture: Arc<dyn Capture>,
    pub(super) way: Way,
}

#[async_trait]
impl Capture for FaultyCapture {
    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.capture.prepare()).await
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let Opened { source, positions, gap } = self.way.call(self.capture.open()).await?;
        let source = Box::new(FaultySource { source, way: self.way.clone() });
        Ok(Opened { source, positions: Arc::new(FaultyPositions { positions, way: self.way.clone() }), gap })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.way.call(self.capture.heartbeat()).await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        self.way.call(self.capture.lag()).await
    }
}

struct FaultySource {
    source: Box<dyn Source>,
    way: Way,
}

#[async_trait]
impl Source for FaultySource {
    /// A dropped call loses nothing: the fault is drawn before the source is called.
    async fn next(&mut self) -> Result<Captured, Fault> {
        self.way.passes().await?;
        self.way.unless_dead(self.source.next()).await
    }

    fn confirm(&mut self, position: Position) {
        if !self.way.life.is_over() {
            self.source.confirm(position);
        }
    }
}

struct FaultyPositions {
    positions: Arc<dyn Positions>,
    way: Way,
}

#[async_trait]
impl Positions for FaultyPositions {
    async fn note(&self, position: Position) -> Result<(), Fault> {
        self.way.call(self.positions.note(position)).await
    }

    async fn close_gap(&self) -> Result<(), Fault> {
        self.way.call(self.positions.close_gap()).await
    }
}

/// Writes rows past the service: each time another key, on top of what the row shows.
pub(super) async fn write_rows(world: Arc<World>, mut rng: Rng) {
    // In the other runs a forged signal would have rows read whose changes capture lost.
    let forges = rng.one_in(4);
    for change in 0..world.scenario.strange {
        sleep(Duration::from_millis(rng.below(world.scenario.gap) as u64)).await;
        let number = SHARED.start + rng.below(SHARED.len());
        let (id, key) = (chunk_id(number), format!("k{change}"));
        // The program writes into the table on record.
        while world.rows.is_swapped() {
            sleep(Duration::from_secs(1)).await;
        }
        let row = world.rows.stored_row(id);
        let mut state = row.map_or_else(|| first_state(&world, number), |row| State::clone(&row));
        state.chunk.metadata.extra.insert(key.clone(), json!(change));
        if rng.one_in(2) {
            state.chunk.metadata.updated_at = world.now().max(state.chunk.metadata.updated_at);
        }
        world.capture.write(&world.rows, Arc::new(state), world.now());
        world.oracle.known().written.push((id, key));
        if forges {
            world.bus.add(forged_signal(number, &mut rng, &world.scenario.settings.limits));
        }
        if rng.one_in(12) && world.scenario.gaps {
            world.capture.lose();
        }
    }
}

fn first_state(world: &World, number: usize) -> State {
    let event = Event::from_json(&first_view(number).to_string(), &world.scenario.settings.limits).unwrap();
    match event.body {
        Body::Chunk(chunk) => State { chunk: *chunk, embedding_stale: false },
        Body::Id(_) => unreachable!("a bare chunk has a body"),
    }
}
