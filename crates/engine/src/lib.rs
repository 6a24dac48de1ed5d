//! The way of a change from the bus to every store, and the proof that it arrived. No vendor is known here: every seam to
//! the outside is a trait in [`ports`].

pub mod ports;
