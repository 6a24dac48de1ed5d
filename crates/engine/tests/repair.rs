//! Verification names every kind of damage exactly, and a repair on the way of every change mends it: rows, graph and bus
//! on disk as the embedded mode has them, vectors in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "repair/damage.rs"]
mod damage;
#[path = "repair/live.rs"]
mod live;
#[path = "repair/world.rs"]
mod world;
