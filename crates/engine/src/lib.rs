//! The way of a change from the bus to every store, and the proof that it arrived. No vendor is known here: every seam to
//! the outside is a trait in [`ports`].
//!
//! Top to bottom: [`publish`] → bus → `worker` → `log` → `merge` → `lane` (one per store) → `settle`; `recover` enters at
//! `merge` again. All of it runs in the one process that holds the `lease`. [`verify`] stands beside and reads the stores only; [`repair`] publishes what it found, and the scrubber
//! does both all the time.

mod absorb;
mod active;
pub mod backfill;
mod breaker;
pub mod capture;
mod carried;
mod caught;
mod clock;
pub mod conflicts;
pub mod crash_point;
pub mod dead;
mod direct;
mod given_up;
mod house;
mod journal;
mod lane;
mod lease;
mod log;
mod merge;
pub mod metrics;
mod operation;
mod pace;
pub mod ports;
mod progress;
pub mod publish;
mod recover;
pub mod repair;
mod retry;
pub mod scrub;
pub mod service;
pub mod settings;
mod settle;
mod signal;
mod suspects;
pub mod verify;
mod worker;

pub use capture::Capturing;
pub use clock::Clock;
pub use lane::Condition;
pub use lease::{Leadership, Role};
pub use progress::Done;
pub use publish::Publisher;
pub use recover::Recovered;
pub use service::{Health, Ports, Service, StartError, Surroundings};
pub use settings::{Detect, DirectSettings, DirectWrites, Settings, WalSettings, WorkerSettings};
