//! Verification reports every kind of damage exactly, and a repair, on the path of every change, removes it.

mod absent;
mod damage;
mod live;
mod missed;
mod read_only;
mod restored;
mod unseen;
mod world;
