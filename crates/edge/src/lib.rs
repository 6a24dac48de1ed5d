//! Vectors in Qdrant's own engine, in process.
