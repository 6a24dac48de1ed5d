//! Everything that puts events on the bus. There is one way in: [`publisher`].

pub mod backfill;
pub mod change_feed;
pub mod publisher;
pub(crate) mod row_event;
