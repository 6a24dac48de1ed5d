//! The engine on stores in memory and on disk. One program for all of it, because each would compile the engine anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conflicts;
mod giving_up;
mod installation;
mod repair;
