//! The course of a run: machines start, systems publish, faults end, and the stores settle.

use super::capture::write_rows;
use super::faults::Endpoint;
use super::plant::{Installation, Plant, Trouble};
use super::process::Machine;
use super::restore::restore;
use super::scenario::Scenario;
use super::tally::Tally;
use super::trouble::{TROUBLES, clear_up, strike};
use super::world::{SOON, World};
use super::writers::{Author, MALFORMED, WRITERS, malformed};
use chunk_sync_samples::rng::Rng;
use chunk_sync_wal::testing::CrashDisk;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Distinguishes the drawing of flipped bits.
const FLIPS: u64 = 0xf119;

/// Distinguishes the drawing of restores.
const RESTORES: u64 = 0x2e57;

/// Whatever the faults, publishers finish within this time.
const LATE: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn live(seed: u64, installation: Installation, plant: Plant) -> Result<Tally, String> {
    let mut rng = Rng::new(seed);
    let processes = installation.processes;
    let world = {
        let scenario = Scenario::draw(&mut rng, installation).within(&plant.stores).triggering(plant.triggers);
        let scenario = scenario.troubled(plant.trouble, Rng::new(seed ^ TROUBLES));
        Arc::new(World::new(scenario, plant, &mut rng))
    };
    if world.scenario.trouble.is_some() {
        world.install().await;
    }
    let mut branch = || Rng::new(rng.next_u64());
    if let Some(down) = world.scenario.down {
        world.faults.cut_off(Endpoint::Store(down), LATE * 2);
    }
    let mut machines = Vec::new();
    for _ in 0..processes {
        let (world, bus, capture) = (Arc::clone(&world), world.bus.another(), world.capture.another());
        let flips = Rng::new(seed ^ FLIPS);
        let machine = Machine { world, rng: branch(), disk: CrashDisk::default(), bus, capture, flips, flipped: 0 };
        machines.push(tokio::spawn(machine.run()));
    }
    let trouble = tokio::spawn(strike(Arc::clone(&world), Rng::new(!seed ^ TROUBLES)));
    let author = publish(&world, &mut branch).await?;
    trouble.await.map_err(|error| error.to_string())?;
    world.become_calm().await;
    clear_up(&world).await?;
    world.settle_without(world.scenario.down).await?;
    world.faults.rejoin();
    world.settle_without(None).await?;
    if world.scenario.trouble == Some(Trouble::RestoredRows) {
        restore(&world, author, Rng::new(seed ^ RESTORES)).await?;
    }
    world.closing.give();
    for machine in machines {
        match timeout(SOON, machine).await {
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(_) => return Err("a process does not come to rest".into()),
        }
    }
    world.drain_late_writes().await?;
    // The final version of a chunk depends on the order of its merges; late commits change that order, and repairs raise
    // the version.
    let simple = !world.scenario.commits_late && !world.scenario.triggers && world.scenario.trouble.is_none();
    let exactly = processes == 1 && simple;
    world.check(None, exactly).await?;
    if world.scenario.trouble.is_some() {
        world.verified().await?;
    }
    Ok(world.tallied())
}

/// Publishes all events of the run; returns one of the systems.
async fn publish(world: &Arc<World>, branch: &mut impl FnMut() -> Rng) -> Result<Author, String> {
    let [claude, cognee, hybrid] = WRITERS.map(|name| {
        let author = Author::new(name, branch());
        tokio::spawn(author.write(Arc::clone(world), world.publisher()))
    });
    let row_writer = tokio::spawn(write_rows(Arc::clone(world), branch()));
    let mut rng = branch();
    for number in 0..world.scenario.malformed {
        sleep(Duration::from_millis(rng.below(20_000) as u64)).await;
        let (event_id, fields) = malformed(number * MALFORMED + rng.below(MALFORMED), &world.scenario.settings.limits);
        world.oracle.known().bad.insert(event_id);
        world.bus.add(fields);
        if rng.one_in(2) {
            world.forget();
        }
    }
    ended(row_writer).await?;
    for author in [cognee, hybrid] {
        ended(author).await?;
    }
    ended(claude).await
}

async fn ended<T>(publisher: JoinHandle<T>) -> Result<T, String> {
    match timeout(LATE, publisher).await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(_) => Err("a publisher does not come to an end".into()),
    }
}
