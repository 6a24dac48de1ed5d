//! What a process runs beside the service: capture, and under a trouble of the field the guard and the scrubber.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::absence::Guard;
use chunk_sync_engine::scrub::{ScrubSettings, Scrubbing};
use chunk_sync_engine::{Capturing, Leadership, Ports, Publisher};
use chunk_sync_model::Target;

use super::capture::FaultyCapture;
use super::faults::Endpoint;
use super::life::Life;
use super::way::Way;
use super::world::World;
use crate::memory::MemoryCapture;

/// The running helpers of a process.
pub(super) struct Helpers {
    capturing: Capturing,
    watching: Option<(Guard, Scrubbing)>,
}

impl Helpers {
    pub(super) fn start(
        world: &World,
        capture: &MemoryCapture,
        life: &Arc<Life>,
        ports: Ports,
        leadership: Leadership,
    ) -> Self {
        let way =
            Way { faults: Arc::clone(&world.faults), life: Arc::clone(life), place: Endpoint::Store(Target::Postgres) };
        let settings = Arc::new(world.scenario.settings.clone());
        let publisher = Publisher::new(Arc::clone(&ports.bus), Arc::new(settings.limits.clone()));
        let watching = world.scenario.trouble.map(|_| {
            let interval = Duration::from_secs(world.scenario.scrubs);
            let scrub = ScrubSettings { interval, rate: 1_000, repair: true };
            let (guarded, leads) = (ports.clone(), leadership.clone());
            let guard = Guard::start(guarded, publisher.clone(), settings.max_deletes, leads);
            let scrubbing =
                Scrubbing::start(ports.clone(), publisher.clone(), scrub, leadership.clone(), Arc::new(|_| {}));
            (guard, scrubbing)
        });
        let capture = (world.plant.capture)(Arc::new(capture.clone()));
        let capture = Arc::new(FaultyCapture { capture, way });
        Self { capturing: Capturing::start(capture, ports, publisher, settings, leadership), watching }
    }

    pub(super) async fn stop(self) {
        if let Some((guard, scrubbing)) = self.watching {
            scrubbing.stop().await;
            guard.stop().await;
        }
        self.capturing.stop().await;
    }
}
