//! Append-only log of opaque JSON records.
