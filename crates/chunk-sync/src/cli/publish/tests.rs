#![allow(clippy::unwrap_used)]
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use chunk_sync_engine::ports::Bus;
use chunk_sync_model::Limits;
use chunk_sync_testkit::memory::MemoryBus;
use chunk_sync_testkit::states::{bare, state};

use super::*;

/// A publisher to a bus with room for `room` events.
fn publisher(room: usize) -> (MemoryBus, Publisher) {
    let bus = MemoryBus::new(room);
    (bus.clone(), Publisher::new(Arc::new(bus), Arc::new(Limits::default())))
}

/// Publishes `lines` lines, every third of which is blank.
async fn run(publisher: &Publisher, lines: usize, patience: Duration) -> (Result<(), Fault>, Summary) {
    let line = |i: usize| match i % 3 {
        0 => "\n".to_owned(),
        _ => format!("{}\n", Event::of_chunk(state(&bare(&i.to_string())).chunk.clone()).to_json()),
    };
    let input = Box::new(Cursor::new((1..=lines).map(line).collect::<String>()));
    let (sender, reads) = mpsc::channel(4);
    let lines = Lines { input, name: "file".into(), publisher: publisher.clone(), line: 0, bytes: 0 };
    let parsing = std::thread::spawn(move || lines.read_all(&sender));
    let mut summary = Summary::default();
    let published = publish((publisher, None), reads, None, patience, &mut summary).await;
    parsing.join().unwrap().unwrap();
    (published, summary)
}

#[tokio::test]
async fn an_interrupted_publication_reports_the_line_to_continue_with() {
    let (bus, publisher) = publisher(1);
    let (published, summary) = run(&publisher, 1000, Duration::ZERO).await;
    // A bus with room accepts a whole batch.
    assert_eq!((summary.published, bus.depth().await.unwrap().unread), (256, 256));
    assert_eq!(summary.lines, 383, "256 events and 127 blank lines");
    let failure = stuck(published.unwrap_err(), &summary, "file");
    assert_eq!(failure.code(), 3);
    let text = failure.text();
    assert!(text.contains("lines 1 to 383 of file are on the bus; continue with line 384"), "{text}");
}

#[tokio::test]
async fn a_bus_that_recovers_in_time_receives_the_rest() {
    let (bus, publisher) = publisher(1);
    let said = Arc::new(Mutex::new(Vec::new()));
    let events = || vec![Event::of_chunk(state(&bare("one")).chunk.clone())];
    publisher.publish(events()).await.unwrap();
    let waiting = tokio::spawn({
        let (publisher, said, events) = (publisher.clone(), Arc::clone(&said), events());
        async move {
            let note = move |text: &str| said.lock().unwrap().push(text.to_owned());
            persist(&publisher, events, Duration::from_secs(60), &note).await
        }
    });
    while said.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let read = bus.read(1, Duration::from_secs(1)).await.unwrap();
    bus.acknowledge(&[read[0].id]).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(said.lock().unwrap().len(), 1, "one note");
}
