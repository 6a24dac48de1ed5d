//! The ports, the clock and the disk of a simulated machine.

use std::sync::Arc;

use chunk_sync_engine::ports::{Installation as _, Projection};
use chunk_sync_engine::{Clock, Ports};
use chunk_sync_model::Target;
use chunk_sync_wal::disk::Disk;
use futures::FutureExt;
use tokio::time::Instant;

use super::disk::WatchedDisk;
use super::faults::Endpoint;
use super::life::Life;
use super::ports::store::FaultyStore;
use super::ports::{FaultyLease, FaultyRecords};
use super::process::{Machine, Wrong};
use super::waiting::FaultyWaiting;
use super::way::Way;
use super::world::faulty_bus;

impl Machine {
    pub(super) fn clock(&self, skew: i64, wrong: Option<Wrong>, life: &Arc<Life>) -> Clock {
        let (begin, zero) = (self.world.scenario.begin.as_millisecond() + skew, self.world.zero);
        let now = move || {
            let wrong = wrong.filter(|wrong| Instant::now() < wrong.until).map_or(0, |wrong| wrong.by);
            let micros = (begin + wrong) * 1_000 + (Instant::now() - zero).as_micros() as i64;
            jiff::Timestamp::from_microsecond(micros).unwrap()
        };
        let life = Arc::clone(life);
        let sleep = move |until| {
            let life = Arc::clone(&life);
            async move {
                tokio::time::sleep_until(until).await;
                life.awake().await;
            }
            .boxed()
        };
        Clock::new(now).with_sleep(sleep)
    }

    pub(super) fn watched_disk(&self) -> Arc<dyn Disk> {
        let disk = (self.world.plant.disk)(Arc::new(self.disk.clone()));
        Arc::new(WatchedDisk { disk, oracle: Arc::clone(&self.world.oracle) })
    }

    pub(super) async fn ports(&self, life: &Arc<Life>, clock: Clock) -> Ports {
        let world = &self.world;
        let installed = world.rows.installed().await.unwrap();
        let way = |place| Way { faults: Arc::clone(&world.faults), life: Arc::clone(life), place };
        let store = |store: &Arc<dyn Projection>| -> Arc<dyn Projection> {
            let (store, oracle) = (Arc::clone(store), Arc::clone(&world.oracle));
            let (way, poison) = (way(Endpoint::Store(store.target())), world.poison(store.target()));
            Arc::new(FaultyStore { store, way, oracle, poison })
        };
        Ports {
            bus: faulty_bus(world, &self.bus, way(Endpoint::Bus)),
            records: Arc::new(FaultyRecords {
                records: Arc::clone(&world.records),
                way: way(Endpoint::Store(Target::Postgres)),
                lease: world.rows.lease("oracle"),
                oracle: Arc::clone(&world.oracle),
                poison: world.poison(Target::Postgres),
            }),
            waiting: Arc::new(FaultyWaiting {
                waiting: (world.plant.waiting)(Arc::new(world.rows.clone())),
                way: way(Endpoint::Store(Target::Postgres)),
            }),
            lease: Arc::new(FaultyLease {
                lease: (world.plant.lease)(world.rows.lease("a machine")),
                way: way(Endpoint::Lease),
            }),
            stores: world.stores.iter().map(store).collect(),
            clock: (world.plant.clock)(clock),
            set: installed.as_ref().map(|installed| installed.version),
            floor: (world.plant.floor)(installed.map(|installed| installed.floor).unwrap_or_default()),
            heartbeats: vec![(world.plant.heartbeats)(Arc::new(world.heartbeats.clone()))],
        }
    }
}
