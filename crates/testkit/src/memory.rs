//! Ports in memory for contract tests and simulations: correct and simple; they produce no faults of their own.
//!
//! A clone is another handle on the same data, so that a test can end a process and open its stores again.

mod absence;
mod bus;
mod capture;
mod heartbeats;
mod lease;
mod merge;
mod records;
mod store;
mod streams;
mod tables;
mod trouble;
mod upkeep;
mod waiting;
mod world;

pub use bus::MemoryBus;
pub use capture::MemoryCapture;
pub use heartbeats::MemoryHeartbeats;
pub use lease::MemoryLease;
pub use records::MemoryRecords;
pub use store::MemoryStore;
pub use world::{World, memory_ports};
