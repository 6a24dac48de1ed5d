//! The only way to publish: every event goes to the bus, and to the listeners in this process.

use std::sync::Arc;

use chunk_sync_model::{Channel, Event, Invalid, Limits, Time};

use crate::ingest::listeners::{Listeners, Subscription};
use crate::ports::{Bus, EntryId, Fault};
use crate::runtime::retry::while_full;

/// Publishes events. Clones share their listeners.
///
/// ```
/// use std::sync::Arc;
///
/// use chunk_sync_engine::{Heard, Publisher};
/// use chunk_sync_model::{Chunk, Event, Limits};
/// use chunk_sync_testkit::memory::MemoryBus;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Arc::new(MemoryBus::new(1000));
/// let publisher = Publisher::new(bus, Arc::new(Limits::default()));
/// let mut heard = publisher.subscribe();
/// let chunk: Chunk = serde_json::from_value(chunk_sync_samples::samples().swap_remove(0))?;
/// let entries = publisher.publish(vec![Event::of_chunk(chunk)]).await?;
/// assert_eq!(entries.len(), 1);
/// assert!(matches!(heard.next().await, Some(Heard::Event(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher {
    bus: Arc<dyn Bus>,
    limits: Arc<Limits>,
    listeners: Listeners,
}

impl Publisher {
    /// A publisher to `bus` that refuses events that exceed `limits`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, limits: Arc<Limits>) -> Self {
        Self { bus, limits, listeners: Listeners::default() }
    }

    /// The limits that events must keep.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Parses one event, or bare chunk, from JSON and compares its time with `now`.
    ///
    /// # Errors
    /// The field that breaks a rule, and the rule; also a writer that cannot publish, and a time that is too far ahead of
    /// `now`.
    pub fn parse(&self, json: &str, now: Time) -> Result<Event, Invalid> {
        self.checked(Event::from_json(json, &self.limits)?, Channel::Publisher, now)
    }

    /// Parses the event by which an operator resolves a conflict, as a worker does once it is published.
    pub(crate) fn parse_resolution(&self, json: &str, now: Time) -> Result<Event, Invalid> {
        self.checked(Event::from_json(json, &self.limits)?, Channel::Bus, now)
    }

    /// Parses the fields of an entry, as a worker does once they are published, and compares the time with `now`.
    ///
    /// # Errors
    /// The field that breaks a rule, and the rule; also a writer that the bus does not admit, and a time that is too far
    /// ahead of `now`.
    pub fn read(&self, fields: &[(Vec<u8>, Vec<u8>)], now: Time) -> Result<Event, Invalid> {
        self.checked(Event::from_fields(fields, &self.limits)?, Channel::Bus, now)
    }

    fn checked(&self, mut event: Event, channel: Channel, now: Time) -> Result<Event, Invalid> {
        event.check_writer(channel)?;
        event.bound_commit_time(now, &self.limits);
        event.check_clock(now, &self.limits)?;
        Ok(event)
    }

    /// Puts the events on the bus in their order; durable there on return.
    ///
    /// # Errors
    /// [`Busy`](crate::ports::FaultClass::Busy) while the bus is full; otherwise the fault of the bus. The events may or
    /// may not have been published then, and all may be published again.
    pub async fn publish(&self, events: Vec<Event>) -> Result<Vec<EntryId>, Fault> {
        let ids = self.bus.publish(&events).await?;
        self.listeners.send(&events);
        Ok(ids)
    }

    /// Publishes like [`publish`](Self::publish), and waits as long as the bus is full: the running service makes room.
    ///
    /// # Errors
    /// Any fault of the bus except that it is full.
    pub(crate) async fn publish_when_there_is_room(&self, events: Vec<Event>) -> Result<Vec<EntryId>, Fault> {
        while_full(|| self.publish(events.clone())).await
    }

    /// Receives every event that is published from now on through this publisher or a clone of it.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.listeners.subscribe()
    }
}
