//! Decisions of an operator: recorded conflicts and dead letters. Both publish events, which take the path of every
//! change.

pub mod conflicts;
pub mod dead_letters;
pub mod spill;
