//! Everything that publishes events. All of it uses [`publisher`].

pub mod backfill;
pub mod change_feed;
pub mod listeners;
pub mod publisher;
pub mod repetition;
pub(crate) mod row_event;
