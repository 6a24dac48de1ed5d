//! Decisions of an operator: recorded conflicts and dead letters, whose events take the path of every change; and the
//! erasure of deleted chunks.

pub mod conflicts;
pub mod dead_letters;
pub mod erase;
pub mod spill;
