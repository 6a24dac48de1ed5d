//! If a store refuses nearly everything, nothing is dead-lettered; refused single events and broken publishers never
//! have that effect.

use std::time::Duration;

use chunk_sync_engine::ports::{Bus as _, WaitingEvents as _};
use chunk_sync_engine::{Service, WorkerSettings};
use chunk_sync_model::Event;

use super::world::{World, event, events, until};

fn refuse(world: &World, events: &[Event]) {
    world.vectors.faults.refused.lock().unwrap().extend(events.iter().map(Event::chunk_id));
}

async fn until_held(service: &Service) -> String {
    let held = async {
        loop {
            match service.health().held {
                Some((_, fault)) => return fault.to_string(),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.expect("the service held nothing within 20 s")
}

#[tokio::test]
async fn events_are_kept_while_a_store_refuses_nearly_everything() {
    let world = World::new();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    let reason = until_held(&service).await;
    assert!(reason.contains("60 of the last 60 chunks") && reason.contains("refused by the test"), "{reason}");
    assert!(!service.health().is_ready());
    assert!(world.letters().await.is_empty());
    until("the bus is free of what is held", async || world.bus.depth().await.unwrap().oldest.is_none()).await;
    world.vectors.faults.refused.lock().unwrap().clear();
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    assert!(world.letters().await.is_empty());
    for event in &events {
        assert!(world.holds(event).await);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_while_events_are_kept_loses_nothing() {
    let world = World::new();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    until_held(&service).await;
    service.stop().await.unwrap();
    world.vectors.faults.refused.lock().unwrap().clear();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(world.letters().await.is_empty());
    for event in &events {
        assert!(world.holds(event).await);
    }
}

#[tokio::test]
async fn waiting_for_idle_fails_while_a_store_refuses_nearly_everything() {
    let mut world = World::new();
    world.worker.patience = Duration::from_millis(100);
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events).await.unwrap();
    let fault = service.until_idle().await.unwrap_err();
    assert!(fault.message.contains("of the last 60 chunks"), "{fault}");
    service.stop().await.unwrap();
    // The next process finds out again and dead-letters nothing meanwhile.
    let service = world.service().await;
    let fault = service.until_idle().await.unwrap_err();
    assert!(fault.message.contains("chunks were refused"), "{fault}");
    assert!(world.letters().await.is_empty());
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_held_uses_no_places_and_is_dead_lettered_once_others_succeed() {
    let world = World::new();
    let (poison, sound) = (events("poison", 1_100), events("sound", 120));
    refuse(&world, &poison);
    let service = world.service().await;
    world.publisher().publish(poison).await.unwrap();
    until_held(&service).await;
    service.stop().await.unwrap();
    // Also after a restart, with the default number of batches under way.
    let service = world.service().await;
    world.publisher().publish(sound.clone()).await.unwrap();
    let arrived = async || {
        let mut all = true;
        for event in &sound {
            all &= world.holds(event).await;
        }
        all
    };
    until("sound events pass what is held", arrived).await;
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    assert_eq!(world.letters().await.len(), 1_100);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_among_the_waiting_events_stays_on_the_bus() {
    let (most, whole) = (u64::MAX, WorkerSettings::default());
    for bound in [(100, most), (most, 60_000)] {
        let mut world = World::new();
        let sizes = WorkerSettings { batch: 60, in_flight_events: 60, ..world.worker.clone() };
        world.worker = WorkerSettings { waiting_events: bound.0, waiting_bytes: bound.1, ..sizes.clone() };
        let events = events("sound", 600);
        refuse(&world, &events);
        let service = world.service().await;
        world.publisher().publish(events.clone()).await.unwrap();
        until("the waiting events are full", async || service.health().waiting_full.is_some()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (waiting, bus) = (waiting(&world).await, world.bus.depth().await.unwrap());
        assert!((60..=300).contains(&waiting), "{waiting} of 600 wait");
        assert!(bus.unread + bus.pending >= 300, "{bus:?}");
        assert!(!service.health().is_ready());
        service.stop().await.unwrap();
        // Also after a restart, which has no verdict at first.
        let service = world.service().await;
        until("the waiting events are full", async || service.health().waiting_full.is_some()).await;
        world.vectors.faults.refused.lock().unwrap().clear();
        until("the service is ready again", async || service.health().is_ready()).await;
        service.until_idle().await.unwrap();
        for event in &events {
            assert!(world.holds(event).await);
        }
        assert!(world.letters().await.is_empty());
        service.stop().await.unwrap();
    }
    assert!(whole.waiting_events < most && whole.waiting_bytes < most, "there is a bound by default");
}

async fn waiting(world: &World) -> u64 {
    world.records.waiting_counts().await.unwrap().iter().map(|count| count.events).sum()
}

#[tokio::test]
async fn what_a_setting_refuses_is_held_and_carried_once_the_setting_is_right() {
    let world = World::new();
    let events = events("sound", 200);
    let mut wrong = world.settings();
    wrong.limits.content_min_chars = 500;
    let service = Service::start(world.ports(), wrong).await.unwrap();
    for part in events.chunks(7) {
        world.publisher().publish(part.to_vec()).await.unwrap();
    }
    let reason = until_held(&service).await;
    assert!(reason.contains("the minimum is 500"), "{reason}");
    until("the bus is free of what is held", async || world.bus.depth().await.unwrap().oldest.is_none()).await;
    assert!(!service.health().is_ready());
    service.stop().await.unwrap();
    assert!(world.letters().await.is_empty());
    let service = world.service().await;
    service.until_idle().await.unwrap();
    for event in &events {
        assert!(world.holds(event).await);
    }
    assert!(world.letters().await.is_empty());
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_single_event_that_a_setting_refuses_is_dead_lettered() {
    let world = World::new();
    let (sound, mut short) = (events("sound", 30), event("short"));
    if let chunk_sync_model::Body::Chunk(chunk) = &mut short.body {
        chunk.content = "short".to_owned();
    }
    let service = world.service().await;
    world.publisher().publish(vec![short.clone()]).await.unwrap();
    service.until_idle().await.unwrap();
    assert_eq!(world.letters().await.len(), 1, "alone: after a moment");
    world.publisher().publish(sound).await.unwrap();
    service.until_idle().await.unwrap();
    short.event_id = uuid::Uuid::max();
    world.publisher().publish(vec![short]).await.unwrap();
    service.until_idle().await.unwrap();
    assert_eq!(world.letters().await.len(), 2, "beside others that succeed: at once");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn broken_publishers_do_not_block_others() {
    let world = World::new();
    for i in 0..300 {
        world.bus.add(vec![(b"chunk".to_vec(), format!("{{broken {i}").into_bytes())]);
    }
    let service = world.service().await;
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    assert_eq!(world.letters().await.len(), 300);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn without_hold_everything_refused_is_dead_lettered() {
    let mut world = World::new();
    world.worker.hold = false;
    let events = events("sound", 60);
    refuse(&world, &events);
    world.publisher().publish(events).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    assert_eq!(world.letters().await.len(), 60);
    service.stop().await.unwrap();
}
