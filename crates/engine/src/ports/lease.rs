//! The lease: decides which one of several processes works the stream.

use async_trait::async_trait;
use uuid::Uuid;

use super::Fault;

/// The state of the lease at one moment. Two equal values mean that the lease was neither taken nor renewed in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The token of the holder; `None` after a release, and if no process ever held the lease.
    pub token: Option<Uuid>,
    /// How often the lease has been taken or renewed.
    pub heartbeat: u64,
    /// Host and process id of the last holder, for reports.
    pub holder: String,
}

/// How the previous holder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// It released the lease, or it is this process: the entries that it had did not end it.
    Orderly,
    /// It fell silent. One of the entries that it had may have ended it.
    Silent,
}

/// The lease of the stream, kept in the system of record.
///
/// A process that wants to work the stream reads the state repeatedly. If the token is `None`, it may take the lease at
/// once; if the state stood still for long enough by the process's *own monotonic clock*, it may take the lease as
/// well. The clocks of two machines are never compared.
///
/// - **Exclusion**: [`take`](Self::take) succeeds only if the state is still `seen`, so of several processes one wins. It
///   waits for running merges of the old holder and returns after they ended. From then on
///   [`begin`](super::SystemOfRecord::begin) refuses every fence that names another token: a merge locks the lease
///   shared until its end and then compares the token; a takeover locks it exclusively.
/// - **Repetition**: a call whose answer was lost may be repeated with the same token. `take` of a token that already
///   holds the lease succeeds; `release` of a token that does not hold it changes nothing.
/// - **What it does not fence**: writes to the other stores, the log of another host, the bus. Writes are guarded by their
///   versions, and the outbox by its rules ([`Outbox::enqueue`](super::Outbox::enqueue)).
/// - **Durability**: as the records. A lease that a crash of the server rolled back shows another token, and its holder
///   is refused.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Returns the current state.
    ///
    /// # Errors
    /// The system of record does not answer; the state is unknown then.
    async fn state(&self) -> Result<LeaseState, Fault>;

    /// Takes the lease under `token` if its state is still `seen`; returns false if the state changed meanwhile. Ends
    /// what the old holder still has open in the system of record (its replication connection), if the privilege for
    /// that is granted.
    ///
    /// # Errors
    /// The system of record does not answer, or a merge of the old holder still runs
    /// ([`Busy`](super::FaultClass::Busy)). The lease may or may not have been taken.
    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault>;

    /// Renews the lease; returns false if `token` does not hold it any more.
    ///
    /// # Errors
    /// The system of record does not answer in time. The lease may or may not have been renewed.
    async fn renew(&self, token: Uuid) -> Result<bool, Fault>;

    /// Releases the lease, so that another process may take it at once.
    ///
    /// # Errors
    /// The system of record does not answer: other processes then wait until the lease stood still for long enough.
    async fn release(&self, token: Uuid) -> Result<(), Fault>;
}
