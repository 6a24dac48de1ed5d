//! If a store refuses nearly everything, nothing is dead-lettered; refused single events and broken publishers never
//! have that effect.

use std::time::Duration;

use chunk_sync_engine::Service;
use chunk_sync_engine::ports::Bus;
use chunk_sync_model::Event;

use super::world::{World, events};

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
    assert_eq!(world.bus.depth().await.unwrap().pending, 60);
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
    assert_eq!(world.bus.forget(|_| true), 60, "from now on only the log has them");
    let recovered = Service::replay(world.ports(), world.settings()).await.unwrap();
    assert_eq!(recovered.replayed, 60);
    assert!(world.letters().await.is_empty() && world.holds(&events[59]).await);
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
    assert_eq!(world.bus.forget(|_| true), 60, "from now on only the log has them");
    let fault = Service::replay(world.ports(), world.settings()).await.unwrap_err();
    let source = std::error::Error::source(&fault).unwrap().to_string();
    assert!(source.contains("of the last 60 chunks"), "{source}");
}

#[tokio::test]
async fn refused_events_are_dead_lettered_once_enough_others_succeed() {
    let mut world = World::new();
    (world.worker.batch, world.worker.in_flight_events) = (16, 128);
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
