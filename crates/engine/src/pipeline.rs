//! The path of an event, in the order of the modules: consumer → intake (envelope, log) → merging (apply) → store
//! writer → completion. Recovery
//! enters at apply. The worker is the loop that runs these steps; the breakers decide whether a refusal is poison or
//! a configuration error.

mod consumer;

mod intake;

pub(crate) mod envelope;

pub(crate) mod log;

mod merging;

pub(crate) mod apply;

pub(crate) mod store_writer;

pub(crate) mod completion;

pub(crate) mod breaker;
pub(crate) mod breakers;
pub(crate) mod carried;
pub(crate) mod claims;
pub(crate) mod clocks;
pub(crate) mod given_up;
pub(crate) mod held_versions;
pub(crate) mod in_flight;
mod isolation;
mod merge_parts;
pub(crate) mod merge_size;
pub(crate) mod recovery;
pub(crate) mod resolutions;
pub(crate) mod suspects;
mod trial;
pub(crate) mod visible;
pub(crate) mod waiting;
pub(crate) mod waiting_amount;
pub(crate) mod waiting_room;
pub(crate) mod worker;
