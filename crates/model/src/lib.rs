//! Defines chunks and events, and merges concurrent changes into one state.
//!
//! Pure and synchronous: no clock, no I/O, no runtime. The caller passes in the current time.

pub mod admission;
pub mod chunk;
pub mod document;
pub mod event;
pub mod hash;
pub mod limits;
pub mod merge;
mod parse;
pub mod part;
pub mod part_value;
pub mod record;
pub mod time;
pub mod vector;
pub mod version;
mod weight;

pub use admission::Channel;
pub use chunk::{Chunk, State};
pub use event::{Body, Event, EventType, Target};
pub use hash::Hash;
pub use limits::{EmbeddingModel, Limits};
pub use parse::{Cause, Invalid};
pub use part::{Part, PartPattern};
pub use record::Record;
pub use time::Time;
pub use version::{ChangeVersion, Origin, SyncVersion, Writer};
