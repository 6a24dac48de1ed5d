//! Events that end the process, and the replay of an event that a store refused.

use std::time::Duration;

use chunk_sync_engine::ports::{Bus, EntryId, Handover};
use chunk_sync_engine::{Recovered, Service};
use chunk_sync_model::Target;

use super::world::{World, event, until};

#[test]
fn an_event_that_ends_the_process_is_dead_lettered_and_those_beside_it_are_not() {
    let mut world = World::new();
    world.worker.max_deliveries = 6;
    world.worker.deadly_within = Duration::from_secs(1);
    let [before, deadly, after] = ["before", "deadly", "after"].map(event);
    world.vectors.faults.deadly.lock().unwrap().insert(deadly.chunk_id());
    let published = [before.clone(), deadly.clone(), after.clone()];
    world.process(async |world| drop(world.publisher().publish(published.to_vec()).await.unwrap()));
    for _ in 0..world.worker.max_deliveries {
        world.dies();
    }
    world.process(async |world| {
        let service = world.service().await;
        service.until_idle().await.unwrap();
        let letters = world.letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert_eq!(letters[0].chunk(), Some(deadly.chunk_id()));
        assert_eq!(letters[0].reasons().attempts, 7, "the attempt that gives it up is counted");
        assert!(world.holds(&before).await && world.holds(&after).await && !world.holds(&deadly).await);
        let depth = world.bus.depth().await.unwrap();
        assert_eq!((depth.unread, depth.pending), (0, 0), "its entry is finished as well");
        service.stop().await.unwrap();
    });
    // A dead-lettered event is finished: the log has nothing left to replay.
    world.process(async |world| {
        assert_eq!(Service::replay(world.ports(), world.settings()).await.unwrap(), Recovered::default());
    });
}

#[test]
fn deaths_that_have_nothing_to_do_with_an_event_do_not_count() {
    let mut world = World::new();
    let event = event("waits");
    world.vectors.faults.deadly.lock().unwrap().insert(event.chunk_id());
    world.process(async |world| drop(world.publisher().publish(vec![event.clone()]).await.unwrap()));
    world.dies();
    let count = |world: &World| world.bus.attempts(EntryId { millis: 0, sequence: 1 }).unwrap();
    world.process(async |world| {
        for _ in 0..9 {
            world.bus.begin(Handover::Silent).await.unwrap();
        }
    });
    assert_eq!(count(&world), 10);
    // Long enough for this process to be killed in the delay.
    world.worker.deadly_within = Duration::from_secs(600);
    world.process(async |world| {
        let _service = world.service().await;
        until("the delayed event has a low count", async || count(world) == 3).await;
    });
    // The event is under way for long enough.
    world.vectors.faults.deadly.lock().unwrap().clear();
    world.vectors.faults.set_down(true);
    world.worker.deadly_within = Duration::from_millis(50);
    world.process(async |world| {
        let _service = world.service().await;
        until("the count begins again", async || count(world) == 1).await;
        assert!(world.letters().await.is_empty() && !world.holds(&event).await);
    });
}

#[test]
fn a_few_crashes_dead_letter_nothing() {
    let mut world = World::new();
    let [one, two] = ["one", "two"].map(event);
    world.vectors.faults.deadly.lock().unwrap().insert(two.chunk_id());
    let published = vec![one.clone(), two.clone()];
    world.process(async |world| drop(world.publisher().publish(published).await.unwrap()));
    for _ in 0..4 {
        world.dies();
    }
    world.vectors.faults.deadly.lock().unwrap().clear();
    world.process(async |world| {
        let service = world.service().await;
        service.until_idle().await.unwrap();
        let recovered = service.health().recovered.unwrap();
        assert_eq!((recovered.replayed, recovered.given_up), (0, 0), "the bus still has it: {recovered:?}");
        assert!(world.holds(&one).await && world.holds(&two).await);
        assert!(world.letters().await.is_empty());
        service.stop().await.unwrap();
    });
}

#[test]
fn an_event_that_breaks_todays_limits_is_dead_lettered_though_the_bus_lost_its_entry() {
    let mut world = World::new();
    let event = event("too long by now");
    world.vectors.faults.deadly.lock().unwrap().insert(event.chunk_id());
    world.process(async |world| drop(world.publisher().publish(vec![event.clone()]).await.unwrap()));
    world.dies();
    world.bus.forget(|_| true);
    world.process(async |world| {
        let mut settings = world.settings();
        settings.limits.content_max_bytes = 1;
        assert_eq!(Service::replay(world.ports(), settings.clone()).await.unwrap().unreadable, 1);
        assert!(world.letters().await.is_empty(), "a setting refuses it, so it waits for evidence");
        let service = Service::start(world.ports(), settings).await.unwrap();
        service.until_idle().await.unwrap();
        service.stop().await.unwrap();
        let letters = world.letters().await;
        assert_eq!((letters.len(), letters[0].reasons().field.as_deref()), (1, Some("chunk.content")));
        let read = world.publisher().read(&letters[0].original(), event.timestamp).unwrap();
        assert_eq!(read, event, "the event is valid by the limits with which it was published");
    });
}

/// Counts the letters of an event that is refused when it is replayed, with or without its entry on the bus.
fn refused_at_replay(lost: bool) -> World {
    let mut world = World::new();
    let event = event("refused");
    world.vectors.faults.deadly.lock().unwrap().insert(event.chunk_id());
    world.process(async |world| drop(world.publisher().publish(vec![event.clone()]).await.unwrap()));
    world.dies();
    world.vectors.faults.deadly.lock().unwrap().clear();
    world.vectors.faults.refused.lock().unwrap().insert(event.chunk_id());
    if lost {
        assert_eq!(world.bus.forget(|_| true), 1);
    }
    world.process(async |world| {
        let service = world.service().await;
        service.until_idle().await.unwrap();
        let letters = world.letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        let reasons = letters[0].reasons();
        assert_eq!((reasons.missing, &*reasons.error), (vec![Target::Qdrant], "refused by the test"));
        let read = world.publisher().read(&letters[0].original(), event.timestamp).unwrap();
        assert_eq!(read, event, "the letter has the whole event");
        let depth = world.bus.depth().await.unwrap();
        assert_eq!((depth.unread, depth.pending), (0, 0));
        service.stop().await.unwrap();
    });
    world
}

#[test]
fn a_refused_replay_is_dead_lettered_though_the_bus_lost_its_entry() {
    refused_at_replay(true);
}

#[test]
fn a_refused_replay_whose_entry_comes_again_has_one_letter() {
    refused_at_replay(false);
}
