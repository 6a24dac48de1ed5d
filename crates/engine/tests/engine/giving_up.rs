//! An event that can never succeed is dead-lettered once, wherever that is found out; an event that only appears so is
//! kept.

mod breaker;
mod crash;
mod divided;
mod evidence;
mod full_bus;
mod heavy;
mod letters;
mod merge_bus;
mod oversize;
mod refused;
mod tidy;
pub(crate) mod world;
