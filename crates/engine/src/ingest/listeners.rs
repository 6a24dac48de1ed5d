//! The local listeners: every published event as JSON, serialised once for all of them and without the numbers of
//! vectors, which make up most of an event.
//!
//! The channel is bounded in events and in bytes. Publishing never waits for a listener: one that is too slow learns how
//! many events it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_sync_model::Event;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

/// The most events that the channel keeps, and about the most bytes of their JSON.
const MOST: usize = 1024;
const MOST_BYTES: usize = 8 << 20;

/// A published event.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// The id of the event.
    pub event_id: Uuid,
    /// The event as one JSON object; its embeddings have neither `vector` nor `indices` and `values`.
    pub json: String,
}

/// What a listener receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next event.
    Event(Arc<Published>),
    /// The listener was too slow: this many events are lost to it.
    Missed(u64),
}

/// The sending side. Clones share the channel.
#[derive(Clone)]
pub(crate) struct Listeners {
    ring: Arc<Mutex<Ring>>,
    /// The number of events so far.
    sent: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Published>>,
    bytes: usize,
    /// The number of the first event in `events`.
    first: u64,
}

/// The receiving side: every event that is published after its creation.
pub struct Subscription {
    ring: Arc<Mutex<Ring>>,
    sent: watch::Receiver<u64>,
    /// The number of the next event.
    next: u64,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { ring: Arc::default(), sent: Arc::new(watch::Sender::new(0)) }
    }
}

impl Listeners {
    pub(crate) fn subscribe(&self) -> Subscription {
        let sent = self.sent.subscribe();
        let next = *sent.borrow();
        Subscription { ring: Arc::clone(&self.ring), sent, next }
    }

    /// Sends the events to every listener; does nothing if there is none.
    pub(crate) fn send(&self, events: &[Event]) {
        for event in events {
            if self.sent.receiver_count() == 0 {
                return;
            }
            let published = Published { event_id: event.event_id, json: without_vectors(event) };
            let mut ring = lock(&self.ring);
            ring.push(published);
            let sent = ring.first + ring.events.len() as u64;
            drop(ring);
            self.sent.send_replace(sent);
        }
    }
}

impl Ring {
    fn push(&mut self, published: Published) {
        self.bytes += published.json.len();
        self.events.push_back(Arc::new(published));
        while self.events.len() > MOST || (self.bytes > MOST_BYTES && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.json.len();
                self.first += 1;
            }
        }
    }
}

impl Subscription {
    /// The next event, or how many were missed; `None` once no publisher is left. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.take() {
                return Some(heard);
            }
            self.sent.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> Option<Heard> {
        let ring = lock(&self.ring);
        if let Some(missed) = ring.first.checked_sub(self.next).filter(|missed| *missed > 0) {
            self.next = ring.first;
            return Some(Heard::Missed(missed));
        }
        let place = usize::try_from(self.next - ring.first).ok()?;
        let event = Arc::clone(ring.events.get(place)?);
        self.next += 1;
        Some(Heard::Event(event))
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The event as JSON, with the embeddings' metadata but without their numbers.
fn without_vectors(event: &Event) -> String {
    let json = event.to_json();
    let Ok(mut value) = serde_json::from_str::<Value>(&json) else {
        return json;
    };
    if let Some(embeddings) = value.pointer_mut("/chunk/embeddings").and_then(Value::as_object_mut) {
        embeddings.values_mut().for_each(strip);
    }
    value.to_string()
}

fn strip(embedding: &mut Value) {
    match embedding {
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Object(object) => {
            object.retain(|key, _| !matches!(key.as_str(), "vector" | "vector_b64" | "indices" | "values"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use chunk_sync_model::Limits;
    use serde_json::json;

    use super::*;

    fn event(n: u128, bytes: usize) -> Event {
        let json = json!({
            "id": Uuid::from_u128(n), "system_origin": "claude", "content": "some content", "chunk_type": "text",
            "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 },
            "organization": {}, "metadata": {
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "x": "x".repeat(bytes),
            },
        });
        Event::from_json(&json.to_string(), &Limits::default()).unwrap()
    }

    fn id(heard: Option<Heard>) -> Uuid {
        match heard {
            Some(Heard::Event(event)) => event.event_id,
            other => panic!("no event: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_stalled_listener_keeps_a_bounded_number_of_bytes_and_learns_what_it_missed() {
        let listeners = Listeners::default();
        let mut stalled = listeners.subscribe();
        let events: Vec<Event> = (0..40).map(|n| event(n, 1_000_000)).collect();
        listeners.send(&events);
        assert!(lock(&listeners.ring).bytes <= MOST_BYTES);
        let Some(Heard::Missed(missed)) = stalled.next().await else { panic!("it missed nothing") };
        for event in &events[usize::try_from(missed).unwrap()..] {
            assert_eq!(id(stalled.next().await), event.event_id);
        }
        drop(listeners);
        assert_eq!(stalled.next().await, None);
    }

    #[tokio::test]
    async fn a_listener_gets_what_is_published_after_it_came() {
        let listeners = Listeners::default();
        listeners.send(&[event(1, 1)]);
        let mut listener = listeners.subscribe();
        let (late, published) = (listeners.clone(), event(2, 1));
        let sent = published.clone();
        let waiting = tokio::spawn(async move { listener.next().await });
        tokio::task::yield_now().await;
        late.send(&[sent]);
        assert_eq!(id(waiting.await.unwrap()), published.event_id);
    }
}
