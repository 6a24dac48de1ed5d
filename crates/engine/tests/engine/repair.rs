//! Verification names every kind of damage exactly, and a repair on the way of every change mends it.

mod damage;
mod live;
mod world;
