//! What a person decides: recorded conflicts and dead letters. Both publish events and enter like every change.

pub mod conflicts;
pub mod dead_letters;
