//! The command line, the configuration, the wiring, the telemetry and the HTTP server of `chunk-sync`. The engine decides
//! what happens to a chunk; nothing here changes chunks by another path.

pub mod cli;
pub mod config;
pub mod http;
mod letters;
mod printable;
mod private;
pub mod status;
pub mod telemetry;
mod wiring;
