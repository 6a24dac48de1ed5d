//! The path of a change from the bus to every store, with durable completion. This crate contains no vendor's client:
//! every connection to the outside is a trait in [`ports`].
//!
//! | folder | content |
//! |---|---|
//! | `ports` | the traits that connectors implement |
//! | `ingest` | everything that puts events on the bus: publisher, change feed, backfill |
//! | `pipeline` | the path of an event: envelope, log, apply, store writer, outbox, completion; and recovery after a crash |
//! | `absence` | chunks whose row is absent: notes, second looks, the limit, the guard over the table on record |
//! | `verify` | everything that reads the stores and compares them: verification, repair, scrubber |
//! | `operator` | decisions of the operator: conflicts, dead letters, erasure |
//! | `runtime` | the service that runs the pipeline: settings, metrics, retries, maintenance |

pub mod absence;
pub mod ingest;
pub mod operator;
mod pipeline;
pub mod ports;
pub mod runtime;
pub mod verify;

pub use ingest::listeners::{Heard, Published, Subscription};
pub use ingest::publisher::Publisher;
pub use ingest::repetition::repeated;
pub use ingest::{backfill, change_feed as capture};
pub use operator::{conflicts, dead_letters as dead, erase, spill as dead_letter_files};
pub use pipeline::envelope::report_dead_letter;
pub use pipeline::recovery::Recovered;
pub use pipeline::store_writer::{Condition, apply_divided};
pub use ports::Ports;
pub use runtime::clock::Clock;
pub use runtime::health::Health;
pub use runtime::latency::Spread;
pub use runtime::lease::{Leadership, Role};
pub use runtime::progress::Done;
pub use runtime::service::{Service, StartError};
pub use runtime::settings::{
    CapturedEvents, Detect, DirectSettings, DirectWrites, Settings, WalSettings, WorkerSettings,
};
pub use runtime::{failpoint as crash_point, metrics, settings};
pub use verify::fill::{FillState, Filled, Filling};
pub use verify::{repair, scrub};

pub use ingest::change_feed::{CaptureMonitor, CaptureState, Capturing, Phase};
