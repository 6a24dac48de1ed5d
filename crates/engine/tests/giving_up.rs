//! What can never succeed is set aside once, wherever it is found out; what only looks like it is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "giving_up/breaker.rs"]
mod breaker;
#[path = "giving_up/crash.rs"]
mod crash;
#[path = "giving_up/letters.rs"]
mod letters;
#[path = "giving_up/world.rs"]
mod world;
