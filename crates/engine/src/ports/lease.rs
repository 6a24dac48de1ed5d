//! The lease: which one of several processes works the stream.

use async_trait::async_trait;
use uuid::Uuid;

use super::Fault;

/// What the lease shows at one moment. Two equal values mean that nothing moved in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The token of the holder; `None` after a release, and where no process ever held the lease.
    pub token: Option<Uuid>,
    /// How often the lease has been taken or renewed.
    pub beat: u64,
    /// Host and process id of the last holder, for reports.
    pub holder: String,
}

/// What became of the holder before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// It released the lease, or it is this very process: it did not die of the entries that it had.
    Orderly,
    /// It fell silent. It may have died of one of the entries that it had.
    Silent,
}

/// The lease of the stream, kept in the system of record.
///
/// A process that wants to work the stream reads the state again and again. Where the token is `None` it may take the
/// lease at once; where the state stood still for long enough by the process's *own monotonic clock* it may take it as
/// well. No clock of one machine is ever compared with that of another.
///
/// - **Exclusion**: [`take`](Self::take) succeeds only if the state is still `seen`, so of several processes one wins. It
///   waits for running merges of the old holder and returns after they ended. From then on
///   [`merge_in`](super::Records::merge_in) refuses every fence that names another token: a merge locks the lease shared
///   and then compares the token; a takeover locks it exclusively.
/// - **Repetition**: a call whose answer was lost may be repeated with the same token. `take` of a token that already
///   holds the lease succeeds; `release` of a token that does not hold it changes nothing.
/// - **What it does not fence**: writes to the other stores, the log of another host, the bus. Writes are guarded by their
///   versions, and the outbox by its rules ([`Records::owe`](super::Records::owe)).
/// - **Durability**: as the records. A lease that a crash of the server rolled back shows another token, and its holder
///   is refused.
#[async_trait]
pub trait Lease: Send + Sync {
    /// What the lease shows now.
    ///
    /// # Errors
    /// Where the system of record does not answer; nothing is known then.
    async fn state(&self) -> Result<LeaseState, Fault>;

    /// Takes the lease under `token` if its state is still `seen`; false if it moved meanwhile. Ends what the old holder
    /// still has open in the system of record (its replication connection), where the right to do so is granted.
    ///
    /// # Errors
    /// Where the system of record does not answer, or a merge of the old holder still runs
    /// ([`Busy`](super::FaultClass::Busy)). The lease may or may not have been taken.
    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault>;

    /// Renews the lease; false if `token` does not hold it any more.
    ///
    /// # Errors
    /// Where the system of record does not answer in time. The lease may or may not have been renewed.
    async fn renew(&self, token: Uuid) -> Result<bool, Fault>;

    /// Gives the lease up, so that another process may take it at once.
    ///
    /// # Errors
    /// Where the system of record does not answer: others then wait until the lease stood still for long enough.
    async fn release(&self, token: Uuid) -> Result<(), Fault>;
}
