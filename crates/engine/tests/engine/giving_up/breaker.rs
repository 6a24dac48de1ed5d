//! Where nearly everything is refused, nothing is set aside; poison and broken publishers never get that far.

use std::time::Duration;

use chunk_sync_engine::Service;
use chunk_sync_engine::ports::Bus;
use chunk_sync_model::Event;

use super::world::{World, events};

fn refuse(world: &World, events: &[Event]) {
    world.vectors.moods.refused.lock().unwrap().extend(events.iter().map(Event::chunk_id));
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
    tokio::time::timeout(Duration::from_secs(20), held).await.expect("nothing is held")
}

#[tokio::test]
async fn what_nearly_everything_shares_is_kept_until_it_is_mended() {
    let world = World::new();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    let reason = until_held(&service).await;
    assert!(reason.contains("60 of the last 60 chunks") && reason.contains("it will not have it"), "{reason}");
    assert!(!service.health().is_ready());
    assert!(world.letters().await.is_empty());
    assert_eq!(world.bus.depth().await.unwrap().pending, 60);
    world.vectors.moods.refused.lock().unwrap().clear();
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    assert!(world.letters().await.is_empty());
    for event in &events {
        assert!(world.holds(event).await);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_meanwhile_loses_nothing() {
    let world = World::new();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    until_held(&service).await;
    service.stop().await.unwrap();
    world.vectors.moods.refused.lock().unwrap().clear();
    assert_eq!(world.bus.forget(|_| true), 60, "from now on only the log has them");
    let recovered = Service::replay(world.ports(), world.settings()).await.unwrap();
    assert_eq!(recovered.replayed, 60);
    assert!(world.letters().await.is_empty() && world.holds(&events[59]).await);
}

#[tokio::test]
async fn whoever_waits_for_the_end_is_told_that_it_may_never_come() {
    let mut world = World::new();
    world.worker.patience = Duration::from_millis(100);
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events).await.unwrap();
    let fault = service.until_idle().await.unwrap_err();
    assert!(fault.message.contains("of the last 60 chunks"), "{fault}");
    service.stop().await.unwrap();
    assert_eq!(world.bus.forget(|_| true), 60, "from now on only the log has them");
    let fault = Service::replay(world.ports(), world.settings()).await.unwrap_err();
    let source = std::error::Error::source(&fault).unwrap().to_string();
    assert!(source.contains("of the last 60 chunks"), "{source}");
}

#[tokio::test]
async fn poison_is_set_aside_once_enough_else_succeeds() {
    let mut world = World::new();
    (world.worker.batch, world.worker.in_flight) = (16, 8);
    let (poison, sound) = (events("poison", 60), events("sound", 60));
    refuse(&world, &poison);
    world.publisher().publish(poison).await.unwrap();
    world.publisher().publish(sound.clone()).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    assert_eq!(world.letters().await.len(), 60);
    assert!(world.holds(&sound[59]).await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn broken_publishers_hold_up_nobody() {
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
async fn whoever_wants_everything_set_aside_gets_it() {
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
