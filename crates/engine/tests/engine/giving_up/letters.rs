//! A dead letter that is published again, and one whose event is superseded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chunk_sync_engine::dead;
use chunk_sync_engine::operator::spill;
use chunk_sync_engine::ports::Bus;
use chunk_sync_engine::scrub::{ScrubSettings, Scrubbed, Scrubbing};
use chunk_sync_model::{Event, Target};
use chunk_sync_wal::disk::Disk;

use super::world::{World, event};

/// A world with one dead letter, of an event that Qdrant refused.
async fn with_a_letter(event: &Event) -> World {
    let world = World::new();
    world.vectors.faults.refused.lock().unwrap().insert(event.chunk_id());
    world.publisher().publish(vec![event.clone()]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert_eq!(world.letters().await.len(), 1);
    world.vectors.faults.refused.lock().unwrap().clear();
    world
}

#[tokio::test]
async fn a_letter_published_again_reaches_every_store() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let letter = world.letters().await.remove(0);
    let publisher = world.publisher();
    let read = publisher.read(&letter.original(), event.timestamp).unwrap();
    let again = dead::again(read, Some(Target::Qdrant));
    dead::retry(&world.bus, &publisher, letter.id, again).await.unwrap().expect("the bus returned no entry");
    assert!(world.letters().await.is_empty());
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(world.holds(&event).await && world.letters().await.is_empty());
}

#[tokio::test]
async fn a_crash_between_publishing_and_dropping_leaves_both_and_does_no_harm() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let letter = world.letters().await.remove(0);
    let publisher = world.publisher();
    let read = || publisher.read(&letter.original(), event.timestamp).unwrap();
    publisher.publish(vec![dead::again(read(), None)]).await.unwrap();
    // The same state as after a crash before the drop: the operator finds the letter and retries it once more.
    dead::retry(&world.bus, &publisher, letter.id, dead::again(read(), None)).await.unwrap();
    assert_eq!(world.bus.depth().await.unwrap().unread, 2);
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(world.holds(&event).await && world.letters().await.is_empty());
}

#[tokio::test]
async fn a_letter_is_superseded_by_what_came_since() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let superseded = async || {
        let letters = [(event.clone(), vec![Target::Qdrant]), (event.clone(), vec![Target::Qdrant])];
        dead::superseded(&*world.ports().records, &letters).await.unwrap()
    };
    assert_eq!(superseded().await, [false, false]);
    let mut newer = event.clone();
    newer.event_id = uuid::Uuid::max();
    newer.timestamp = chunk_sync_model::Time::from_micros(event.time().micros() + 1_000);
    let service = world.service().await;
    world.publisher().publish(vec![newer]).await.unwrap();
    service.until_idle().await.unwrap();
    assert_eq!(superseded().await, [true, true]);
    // The service drops it.
    let gone = async {
        while !world.letters().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the letter was not dropped within 30 s");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_scrubber_repairs_a_refused_chunk_once_and_not_in_each_pass_or_after_each_start() {
    let event = event("refused for good");
    let world = with_a_letter(&event).await;
    world.vectors.faults.refused.lock().unwrap().insert(event.chunk_id());
    for _start in 0..3 {
        scrub(&world, 4).await;
        assert_eq!(world.letters().await.len(), 2, "the first letter, and that of one repair");
    }
}

/// A process whose scrubber makes so many passes.
async fn scrub(world: &World, least: u32) {
    let service = world.service().await;
    let (passes, told) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Notify::new()));
    let on_pass = {
        let (passes, told) = (Arc::clone(&passes), Arc::clone(&told));
        move |_: &Scrubbed| {
            passes.fetch_add(1, Ordering::Relaxed);
            told.notify_one();
        }
    };
    let settings = ScrubSettings { interval: Duration::from_millis(10), rate: 10_000, repair: true };
    let scrubbing =
        Scrubbing::start(world.ports(), world.publisher(), settings, service.leadership(), Arc::new(on_pass));
    while passes.load(Ordering::Relaxed) < least {
        tokio::time::timeout(Duration::from_secs(60), told.notified()).await.expect("no pass within 60 s");
    }
    scrubbing.stop().await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn longer_dead_letters_than_the_bus_may_have_move_into_a_file() {
    let world = World::new();
    for _ in 0..50 {
        world.bus.add(vec![(b"chunk".to_vec(), vec![b'x'; 100_000])]);
    }
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let disk: Arc<dyn chunk_sync_wal::disk::Disk> = Arc::new(chunk_sync_wal::testing::CrashDisk::default());
    let most = spill::Most { letters: 100, bytes: 2_500_000 };
    let moved = spill::spill(&world.bus, &disk, most, jiff::Timestamp::now()).await.unwrap();
    assert_eq!((moved, world.letters().await.len()), (30, 20));
    assert_eq!(spill::spill(&world.bus, &disk, most, jiff::Timestamp::now()).await.unwrap(), 0);
}

#[tokio::test]
async fn more_dead_letters_than_the_bus_may_have_move_into_a_file() {
    let world = World::new();
    for i in 0..250 {
        world.bus.add(vec![(b"chunk".to_vec(), format!("{{broken {i}").into_bytes())]);
    }
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let disk = chunk_sync_wal::testing::CrashDisk::default();
    let (seam, now): (Arc<dyn chunk_sync_wal::disk::Disk>, _) =
        (Arc::new(disk.clone()), "2026-11-23T04:15:00Z".parse());
    let most = spill::Most { letters: 20, bytes: u64::MAX };
    let moved = spill::spill(&world.bus, &seam, most, now.unwrap()).await.unwrap();
    assert_eq!((moved, world.letters().await.len()), (230, 20));
    let after = disk.crash(&mut |_| 0);
    let file = after.list().unwrap().remove(0);
    assert_eq!(file.0, "dead_20261123.jsonl");
    let mut bytes = vec![0; usize::try_from(file.1).unwrap()];
    assert_eq!(after.open(&file.0).unwrap().read_at(0, &mut bytes).unwrap(), bytes.len());
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 230);
    assert!(text.lines().next().unwrap().contains("{broken 0"));
}

#[tokio::test]
async fn a_letter_that_has_moved_into_a_file_is_erased_there() {
    let world = World::new();
    let [erased, kept] = ["erased", "kept"].map(event);
    world.vectors.faults.refused.lock().unwrap().extend([erased.chunk_id(), kept.chunk_id()]);
    let service = world.service().await;
    world.publisher().publish(vec![erased.clone(), kept.clone()]).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let disk: Arc<dyn Disk> = Arc::new(chunk_sync_wal::testing::CrashDisk::default());
    let none = spill::Most { letters: 0, bytes: u64::MAX };
    assert_eq!(spill::spill(&world.bus, &disk, none, jiff::Timestamp::now()).await.unwrap(), 2);
    let text = || {
        let (name, length) = disk.list().unwrap().remove(0);
        let mut text = vec![0; usize::try_from(length).unwrap()];
        let read = disk.open(&name).unwrap().read_at(0, &mut text).unwrap();
        assert_eq!(read, text.len());
        String::from_utf8(text).unwrap()
    };
    assert!(text().contains(&erased.chunk_id().to_string()));
    assert_eq!(spill::erase(&*disk, &[erased.chunk_id()]).unwrap(), 1);
    assert!(!text().contains(&erased.chunk_id().to_string()) && text().contains(&kept.chunk_id().to_string()));
    assert_eq!(spill::erase(&*disk, &[erased.chunk_id()]).unwrap(), 0);
}
