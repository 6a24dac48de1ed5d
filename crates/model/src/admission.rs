//! Which events a channel admits: who may write, and until which time. An event that passes cannot outrank later
//! changes, nor bring a version so high that nothing can follow it.

use crate::event::{Event, EventType};
use crate::parse::{Cause, Invalid, is_marker};
use crate::{Limits, Part, PartPattern, SyncVersion, Time, Writer};

/// The way by which an event arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// HTTP and `publish`: publishing systems only.
    Publisher,
    /// An entry of the bus. It may also be a signal that a row was written, or a resolution by an operator.
    Bus,
}

impl Event {
    /// Checks that the writer may use the channel.
    ///
    /// - A [publisher](Channel::Publisher) is `claude`, `cognee` or `hybrid`.
    /// - On the [bus](Channel::Bus) `postgres` may also signal that a row was written, and `operator` may set named
    ///   parts. `qdrant` and `neo4j` never write through events: the service reads these stores itself.
    ///
    /// Whether the parts of an operator are those of a recorded conflict only the record of conflicts can show.
    ///
    /// # Errors
    /// [`Invalid`] with the field `writer`, or with `type` or `set` of an event by `operator`.
    pub fn check_writer(&self, channel: Channel) -> Result<(), Invalid> {
        match (channel, self.writer) {
            (_, Writer::Claude | Writer::Cognee | Writer::Hybrid) | (Channel::Bus, Writer::Postgres) => Ok(()),
            (Channel::Bus, Writer::Operator) => self.check_resolution(),
            (Channel::Publisher, writer) => {
                let message = format!("`{writer}` cannot publish; leave it out, or name claude, cognee or hybrid");
                Err(Invalid::new("writer", message))
            }
            (Channel::Bus, writer) => {
                let message = format!("`{writer}` is no writer of events: the service reads that store itself");
                Err(Invalid::new("writer", message))
            }
        }
    }

    /// An operator sets single parts that a conflict can have.
    fn check_resolution(&self) -> Result<(), Invalid> {
        if self.kind == EventType::Delete {
            return Err(Invalid::new(
                "type",
                "`operator` cannot delete; a delete is published by claude, cognee or hybrid",
            ));
        }
        if self.set.is_empty() {
            return Err(Invalid::new(
                "set",
                "missing; `operator` sets the parts of a recorded conflict, and names them",
            ));
        }
        let settable = |pattern: &PartPattern| match pattern {
            PartPattern::One(part) => *part != Part::Existence && !is_marker(part),
            _ => false,
        };
        match self.set.iter().enumerate().find(|(_, pattern)| !settable(pattern)) {
            Some((i, pattern)) => {
                let message =
                    format!("`{pattern}` is not a part of a recorded conflict; `operator` sets only such parts");
                Err(Invalid::new(format!("set[{i}]"), message))
            }
            None => Ok(()),
        }
    }

    /// Checks that the time of the change is not further ahead of the bus's clock than the limits allow, and that it is
    /// below the ceiling of sync versions whatever the clock shows.
    ///
    /// # Errors
    /// [`Invalid`] with the field that has that time, `timestamp` or `chunk.metadata.updated_at`.
    pub fn check_clock(&self, clock: Time, limits: &Limits) -> Result<(), Invalid> {
        let field = if self.timestamp == self.time() { "timestamp" } else { "chunk.metadata.updated_at" };
        if reaches_ceiling(self.time()) {
            let message = format!("{} is too near to the greatest time that a version can have", self.time());
            return Err(Invalid::new(field, format!("{message}; correct the publisher's clock")));
        }
        if self.time() <= latest(clock, limits) {
            return Ok(());
        }
        let bound = limits.max_ahead_micros / 1_000_000;
        let message = format!(
            "{} is more than {bound} s ahead of the clock ({clock}); correct the publisher's clock",
            self.time()
        );
        Err(Invalid::new(field, message).because(Cause::Clock))
    }

    /// Replaces the commit time of a signal by the clock's if it lies beyond the clock bound; returns whether it did. A
    /// signal only causes its row to be read: a wrong time must neither stop that nor outrank later changes.
    pub fn bound_commit_time(&mut self, clock: Time, limits: &Limits) -> bool {
        let beyond = self.writer == Writer::Postgres && self.timestamp > latest(clock, limits);
        if beyond {
            self.timestamp = clock;
        }
        beyond
    }
}

/// The latest time of a change that is accepted while the clock shows `clock`.
#[must_use]
pub fn latest(clock: Time, limits: &Limits) -> Time {
    Time::from_micros(clock.micros().saturating_add(limits.max_ahead_micros))
}

/// Whether a version with that time would be too near to the maximum.
fn reaches_ceiling(time: Time) -> bool {
    u64::try_from(time.micros()).is_ok_and(|micros| micros >= SyncVersion::CEILING.get())
}
