//! The engine on ports in memory and a log on disk. All tests are one program, because each program would compile the
//! engine again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conflicts;
mod erase;
mod expiry;
mod giving_up;
mod inserted_again;
mod installation;
mod late_writes;
mod repair;
mod slow_log;
mod writers;
