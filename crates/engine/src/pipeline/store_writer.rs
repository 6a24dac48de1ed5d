//! A store writer sends writes to one store, in the order in which it receives them. While its store fails it retries
//! and the other store writers continue; after `worker.patience` the writes that the store misses are left to the
//! outbox, so that one store does not block the others. A chunk whose write takes too long is sent apart, so that it
//! delays no other chunk.
//!
//! A store writer runs for one term of the lease. When the term is over it sends nothing to the store. A write that it
//! sent before may arrive late, after the next holder deleted the chunk there, and stores that remove deleted documents
//! forget the version with the document. So if an answer arrives after the term, the chunks are compared with the
//! record, and those with a newer version are put into the outbox for the new holder. If the process dies before that
//! answer, the watch list has the chunk (`runtime/watch.rs`).

mod access;
mod backlog;
mod condition;
mod delivery;
mod divided;
mod drain;
mod isolation;
mod late_writes;
mod task;

use std::sync::Arc;

use chunk_sync_model::Target;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::access::StoreAccess;
use self::backlog::WriteBatch;
pub(crate) use self::backlog::WriteResult;
pub use self::condition::Condition;
pub(crate) use self::condition::SharedCondition;
pub use self::divided::apply_divided;
use self::drain::OutboxDrain;
use crate::pipeline::claims::{Claim, Claims};
use crate::pipeline::held_versions::HeldVersions;
use crate::ports::{Projection, Records, Write};
use crate::runtime::settings::WorkerSettings;
use crate::runtime::term::Term;

/// The handle of a store writer. Clones share it.
#[derive(Clone)]
pub(crate) struct StoreWriter {
    store: Arc<dyn Projection>,
    batches: mpsc::UnboundedSender<WriteBatch>,
    condition: SharedCondition,
    claims: Claims,
    held: HeldVersions,
}

impl StoreWriter {
    /// Starts a writer to `store` for one term, and returns its handle and its task. The task ends when the last clone
    /// of the handle is dropped. `records` holds the outbox; `condition` outlives the writer.
    pub(crate) fn start(
        store: Arc<dyn Projection>,
        records: Arc<dyn Records>,
        settings: WorkerSettings,
        term: Term,
        condition: SharedCondition,
    ) -> (Self, JoinHandle<()>) {
        // Bounded by what the worker allows in flight.
        let (batches, inbox) = mpsc::unbounded_channel();
        let (claims, held) = (Claims::default(), HeldVersions::default());
        let store_writer = Self {
            store: Arc::clone(&store),
            batches,
            condition: condition.clone(),
            claims: claims.clone(),
            held: held.clone(),
        };
        let access = StoreAccess::new(store, records, settings, term, condition, held);
        (store_writer, tokio::spawn(task::run(access, OutboxDrain::new(claims), inbox)))
    }

    pub(crate) fn target(&self) -> Target {
        self.store.target()
    }

    /// The store, for reads: writes must go through [`Self::send`].
    pub(crate) fn store(&self) -> &Arc<dyn Projection> {
        &self.store
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition.get()
    }

    /// What the store has shown in this term.
    pub(crate) fn held(&self) -> HeldVersions {
        self.held.clone()
    }

    /// Keeps the drain of the outbox away from these chunks until the claim is dropped.
    pub(crate) fn claim(&self, ids: Vec<Uuid>) -> Claim {
        self.claims.claim(ids)
    }

    /// Sends the writes. The answers, one per write, arrive when each is durable, pending in the outbox or refused; none
    /// arrive if the term ends first. `enqueued` if the merge has put the writes into the outbox.
    pub(crate) fn send(&self, writes: Arc<[Write]>, enqueued: bool) -> oneshot::Receiver<Vec<WriteResult>> {
        let (done, answer) = oneshot::channel();
        // A writer that has ended drops the batch and its sender; the receiver reports that.
        let _ = self.batches.send(WriteBatch { writes, enqueued, from_outbox: false, done });
        answer
    }
}
