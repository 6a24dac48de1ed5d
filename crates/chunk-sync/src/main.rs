//! Keeps chunks the same.
fn main() {}
