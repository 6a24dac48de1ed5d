//! Absent rows: living chunks without a row. What is noted about them, when they are looked at again, and which of them
//! are deleted. See [`AbsenceLog`](crate::ports::AbsenceLog) for the rules.

mod guard;
mod look;
pub(crate) mod restore;
pub(crate) mod review;

pub use guard::{Guard, GuardState, Guarded};
pub use look::SECOND_LOOK;
pub use review::{Review, force, note, review, truncated};
