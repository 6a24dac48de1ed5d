//! The engine on ports in memory and a log on disk. One program for all of it: each would compile the engine again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conflicts;
mod giving_up;
mod installation;
mod repair;
