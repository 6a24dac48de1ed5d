//! Behavioural suites, faults and in-memory ports, for tests only.

use std::sync::Arc;

use async_trait::async_trait;

/// A port to be held to its contract, in surroundings of its own: a directory, database, stream or key space that no other
/// test sees.
#[async_trait]
pub trait Fixture: Sized + Send + Sync {
    /// The trait of the engine that is held to its contract, such as `dyn Store`.
    type Port: ?Sized + Send + Sync;

    /// Fresh surroundings, empty and prepared. Panics, saying how to get one, where the service that it needs is not there.
    async fn fresh() -> Self;

    /// The port.
    fn port(&self) -> Arc<Self::Port>;

    /// Drops the port and opens another on the same surroundings, as after a restart of the process.
    async fn reopen(&mut self);
}
