//! The environment of the pipeline: the service, its settings, clock, retries, metrics and maintenance.

pub(crate) mod active;
pub(crate) mod catch_panic;
pub mod clock;
pub mod failpoint;
pub mod health;
pub(crate) mod latency;
pub mod lease;
pub(crate) mod maintenance;
pub mod metrics;
pub(crate) mod progress;
pub(crate) mod rate_limit;
pub(crate) mod retry;
pub mod service;
pub mod settings;
pub(crate) mod shared_value;
pub(crate) mod sweep;
pub mod term;
pub(crate) mod under_way;
pub(crate) mod watch;
