//! An event that can never succeed is dead-lettered once, wherever that is found out; an event that only appears so is
//! kept.

mod breaker;
mod crash;
mod divided;
mod heavy;
mod letters;
mod merge_bus;
mod oversize;
pub(crate) mod world;
