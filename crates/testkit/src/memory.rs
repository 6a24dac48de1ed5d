//! Ports in memory, for suites and simulated tests: honest and simple, and nothing in them fails of itself.
//!
//! A clone is another handle on the same things, so that whoever keeps one can end a process and open its stores again.

mod bus;
mod capture;
mod lease;
mod records;
mod store;
mod world;

pub use bus::MemoryBus;
pub use capture::MemoryCapture;
pub use lease::MemoryLease;
pub use records::MemoryRecords;
pub use store::MemoryStore;
pub use world::World;
