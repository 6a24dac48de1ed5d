//! The command line, the configuration, the wiring, the telemetry and the HTTP server of `chunk-sync`. What happens to a
//! chunk is decided in the engine; nothing here knows a second way of doing it.

pub mod cli;
pub mod config;
pub mod http;
pub mod status;
pub mod telemetry;
mod wiring;
