//! The bus on a real Redis: handovers, processes that lost the lease without noticing, a server that restarts or loses its
//! data.
//!
//! Most tests share the server named by `CHUNK_SYNC_TEST_REDIS_URL`, each with its own streams. A test that stops or
//! disturbs a server starts its own (`redis-server` must be on the path).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "redis/contract.rs"]
mod contract;
#[path = "redis/cost.rs"]
mod cost;
#[path = "redis/crash.rs"]
mod crash;
#[path = "redis/entries.rs"]
mod entries;
#[path = "redis/examine.rs"]
mod examine;
#[path = "redis/handover.rs"]
mod handover;
#[path = "redis/installations.rs"]
mod installations;
#[path = "redis/loss.rs"]
mod loss;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/surroundings.rs"]
mod surroundings;
