//! The one way in: whatever is published goes on the bus, and is offered to whoever listens in this process.

use std::sync::Arc;

use chunk_sync_model::{Event, Invalid, Limits, Time};
use tokio::sync::broadcast;

use crate::ports::{Bus, EntryId, Fault, FaultClass};

/// How many events a listener may lag behind before it misses some.
const LISTENERS_BUFFER: usize = 1024;

/// Publishes events. Clones share their listeners.
#[derive(Clone)]
pub struct Publisher {
    bus: Arc<dyn Bus>,
    limits: Arc<Limits>,
    listeners: broadcast::Sender<Arc<Event>>,
}

impl Publisher {
    /// A publisher to `bus` that refuses what keeps not to `limits`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, limits: Arc<Limits>) -> Self {
        Self { bus, limits, listeners: broadcast::Sender::new(LISTENERS_BUFFER) }
    }

    /// Reads one event, or bare chunk, from JSON and holds its time against the clock.
    ///
    /// # Errors
    /// Names the field that keeps no rule.
    pub fn parse(&self, json: &str, now: Time) -> Result<Event, Invalid> {
        let event = Event::from_json(json, &self.limits)?;
        event.check_clock(now, &self.limits)?;
        Ok(event)
    }

    /// Reads the fields of an entry, as a worker will once they are published, and holds the time against the clock.
    ///
    /// # Errors
    /// Names the field that keeps no rule.
    pub fn read(&self, fields: &[(Vec<u8>, Vec<u8>)], now: Time) -> Result<Event, Invalid> {
        let event = Event::from_fields(fields, &self.limits)?;
        event.check_clock(now, &self.limits)?;
        Ok(event)
    }

    /// Puts the events on the bus in their order; durable there on return.
    ///
    /// # Errors
    /// [`Busy`](crate::ports::FaultClass::Busy) while the bus is full; else what the bus says. None of the events can be
    /// taken for published then, and all may be published again.
    pub async fn publish(&self, events: Vec<Event>) -> Result<Vec<EntryId>, Fault> {
        let ids = self.bus.publish(&events).await?;
        if self.listeners.receiver_count() > 0 {
            for event in events {
                // Nobody listening any more is no fault.
                let _ = self.listeners.send(Arc::new(event));
            }
        }
        Ok(ids)
    }

    /// The same, however long the bus is full: the service behind it makes room.
    ///
    /// # Errors
    /// What the bus says beside that it is full.
    pub(crate) async fn publish_when_there_is_room(&self, events: Vec<Event>) -> Result<Vec<EntryId>, Fault> {
        loop {
            match self.publish(events.clone()).await {
                Err(fault) if fault.class == FaultClass::Busy => {}
                result => return result,
            }
        }
    }

    /// From now on, every event published through this publisher or a clone of it.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.listeners.subscribe()
    }
}
