//! Verification names every kind of damage exactly, and a repair on the way of every change mends it: rows, graph and bus
//! on disk as the embedded mode has them, vectors in memory.

mod damage;
mod live;
mod world;
