//! Chunk, event, versions and merge: pure and synchronous.
