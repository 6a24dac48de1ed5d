//! From a batch of operations to the state that every store has to hold: pure decisions on what was read under locks.

pub(crate) mod conflict_notes;
pub(crate) mod direct_write;
pub(crate) mod external_change;
pub(crate) mod plan;
