//! The conformance suite of the table of waiting events.

use chunk_sync_engine::ports::{EntryId, Fence, NewWaiting, WaitReason, WaitingEvents};
use uuid::Uuid;

fn event(name: &str, chunk: Uuid, reason: WaitReason) -> NewWaiting {
    NewWaiting {
        name: name.to_owned(),
        chunk,
        entry: name.parse().ok(),
        attempt: 3,
        fields: vec![(b"chunk".to_vec(), vec![0xff, 0x00, b'x']), (b"type".to_vec(), b"update".to_vec())],
        reason,
        error: "the row is locked".to_owned(),
    }
}

fn names(events: &[chunk_sync_engine::ports::WaitingEvent]) -> Vec<&str> {
    events.iter().map(|event| event.event.name.as_str()).collect()
}

/// Runs the whole suite on an empty table.
pub async fn suite(waiting: &dyn WaitingEvents) {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (fence, none): (Fence, &[EntryId]) = (Fence::default(), &[]);
    assert!(waiting.waiting_chunks().await.unwrap().is_empty());
    assert!(waiting.waiting_of(&[one], 10).await.unwrap().is_empty());

    // Events come back as they were added, those of a chunk in their order.
    let first = [
        event("17-1", one, WaitReason::Locked),
        event("17-2", two, WaitReason::Setting),
        event("17-3", one, WaitReason::Behind),
    ];
    waiting.add_waiting(&first, &fence, none).await.unwrap();
    waiting.add_waiting(&[event("17-4", one, WaitReason::Behind)], &fence, none).await.unwrap();
    let of_one = waiting.waiting_of(&[one], 10).await.unwrap();
    assert_eq!(names(&of_one), ["17-1", "17-3", "17-4"]);
    assert_eq!(of_one[0].event, first[0]);
    assert!(of_one.is_sorted_by(|a, b| a.number < b.number));
    assert_eq!(names(&waiting.waiting_of(&[two, one], 2).await.unwrap()), ["17-1", "17-2"]);

    // An event that is there already is not added again.
    waiting.add_waiting(&first, &fence, none).await.unwrap();
    let mut chunks = waiting.waiting_chunks().await.unwrap();
    chunks.sort_unstable();
    assert_eq!(chunks, [(one, 3), (two, 1)]);

    // Reports.
    waiting.explain_waiting(&[of_one[0].number], WaitReason::Refused, "no such column").await.unwrap();
    let explained = waiting.waiting_of(&[one], 1).await.unwrap().remove(0);
    assert_eq!((explained.event.reason, &*explained.event.error), (WaitReason::Refused, "no such column"));
    let mut counts: Vec<_> =
        waiting.waiting_counts().await.unwrap().iter().map(|count| (count.reason, count.events)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [(WaitReason::Refused, 1), (WaitReason::Setting, 1), (WaitReason::Behind, 2)]);
    let counts = waiting.waiting_counts().await.unwrap();
    assert!(counts.iter().all(|count| (10 * count.events..400 * count.events).contains(&count.bytes)), "{counts:?}");

    // Removed events are gone, and their numbers are not used again.
    let numbers: Vec<u64> = of_one.iter().map(|event| event.number).collect();
    waiting.remove_waiting(&numbers).await.unwrap();
    waiting.remove_waiting(&numbers).await.unwrap();
    assert_eq!(waiting.waiting_chunks().await.unwrap(), [(two, 1)]);
    waiting.add_waiting(&[event("17-1", one, WaitReason::Locked)], &fence, none).await.unwrap();
    assert!(waiting.waiting_of(&[one], 10).await.unwrap()[0].number > numbers[2]);

    // A process that does not hold the lease adds nothing.
    let fenced = Fence { lease: Some(Uuid::from_u128(7)), ..Fence::default() };
    let fault = waiting.add_waiting(&[event("17-9", two, WaitReason::Locked)], &fenced, none).await.unwrap_err();
    assert_eq!(fault.class, chunk_sync_engine::ports::FaultClass::Busy, "{fault}");
    assert_eq!(names(&waiting.waiting_of(&[two], 10).await.unwrap()), ["17-2"]);
}

/// A read returns a bounded number of bytes, and at least one event.
pub async fn bounded_reads(waiting: &dyn WaitingEvents) {
    let chunk = Uuid::from_u128(3);
    for i in 0..6 {
        let mut long = event(&format!("18-{i}"), chunk, WaitReason::Locked);
        long.fields.push((b"x".to_vec(), vec![b'x'; 3 << 20]));
        waiting.add_waiting(&[long], &Fence::default(), &[]).await.unwrap();
    }
    let bytes: u64 = waiting.waiting_counts().await.unwrap().iter().map(|count| count.bytes).sum();
    assert!(bytes > 18 << 10, "{bytes} bytes of 18 MiB of one letter, which a server may compress");
    let read = waiting.waiting_of(&[chunk], 100).await.unwrap();
    assert!((1..6).contains(&read.len()), "{} events of 3 MiB at once", read.len());
    waiting.remove_waiting(&read.iter().map(|event| event.number).collect::<Vec<_>>()).await.unwrap();
    assert!(!waiting.waiting_of(&[chunk], 100).await.unwrap().is_empty());
}
