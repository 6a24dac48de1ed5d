//! The loop of a store writer: deliver what arrives, and drain the outbox.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::access::StoreAccess;
use super::delivery::{WriteResult, deliver};
use super::drain::OutboxDrain;
use crate::ports::Write;

/// Writes handed to a store writer, and where it answers.
pub(super) struct WriteBatch {
    pub(super) writes: Arc<[Write]>,
    /// The merge has put them into the outbox already.
    pub(super) enqueued: bool,
    pub(super) done: oneshot::Sender<Vec<WriteResult>>,
}

/// Runs until the last sender of the inbox is dropped.
pub(super) async fn run(access: StoreAccess, mut drain: OutboxDrain, mut inbox: mpsc::Receiver<WriteBatch>) {
    let mut outbox_poll = interval(access.settings.retry_max.min(Duration::from_secs(1)));
    outbox_poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            write_batch = inbox.recv() => match write_batch {
                Some(write_batch) => {
                    if let Some(results) = deliver(&access, &write_batch.writes, write_batch.enqueued).await {
                        // If the receiver is gone, the writes are repeated after a restart.
                        let _ = write_batch.done.send(results);
                    }
                }
                None => return,
            },
            _ = outbox_poll.tick() => drain.run(&access).await,
        }
    }
}
