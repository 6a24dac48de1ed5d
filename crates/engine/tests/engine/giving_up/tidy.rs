//! What is finished is removed, also while a part of that fails.

use std::time::Duration;

use chunk_sync_engine::{Clock, Ports, Service};
use jiff::{SignedDuration, Timestamp};

use super::world::{World, event, until};

#[tokio::test]
async fn a_bus_that_fails_keeps_no_file_of_the_log() {
    let world = World::new();
    let service = world.service().await;
    world.publisher().publish(vec![event("finished")]).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let mut settings = world.settings();
    settings.wal.keep = Duration::ZERO;
    let files = || {
        let names = std::fs::read_dir(&settings.wal.dir).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("wal_")).collect::<Vec<_>>()
    };
    let first = files();
    assert_eq!(first.len(), 1, "{first:?}");
    // Two hours later, so that the file is not written any more.
    let later = || Timestamp::now() + SignedDuration::from_hours(2);
    world.bus.set_clock(move || later().into());
    world.bus.refuse_trims();
    let service = Service::start(Ports { clock: Clock::new(later), ..world.ports() }, settings.clone()).await.unwrap();
    // With the first event of that hour another file begins.
    world.publisher().publish(vec![event("later")]).await.unwrap();
    until("the finished file is removed", async || !files().contains(&first[0])).await;
    service.stop().await.unwrap();
}
