//! What can never succeed is set aside once, wherever it is found out; what only looks like it is kept.

mod breaker;
mod crash;
mod letters;
mod merge_bus;
mod world;
