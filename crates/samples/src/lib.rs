//! Sample chunks and a seeded generator.
