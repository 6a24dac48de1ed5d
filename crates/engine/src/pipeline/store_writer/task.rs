//! The loop of a store writer: deliver what arrives, and drain the outbox while the store misses something.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::access::StoreAccess;
use super::backlog::WriteBatch;
use super::delivery::Delivery;
use super::drain::{OutboxDrain, Rest};

/// How often the outbox is read while it has something, at most.
const POLL: Duration = Duration::from_secs(1);

/// How often it is read otherwise: another process may have put a write into it.
const IDLE_POLL: Duration = Duration::from_secs(10);

/// Runs until the last sender of the inbox is dropped.
pub(super) async fn run(access: StoreAccess, mut drain: OutboxDrain, mut inbox: mpsc::UnboundedReceiver<WriteBatch>) {
    let mut delivery = Delivery::new(&access);
    let mut outbox_due = Instant::now();
    let poll = access.settings.retry_max.min(POLL);
    let claims = drain.claims.clone();
    loop {
        tokio::select! {
            biased;
            () = delivery.is_due() => {
                // All that has arrived meanwhile goes along.
                while let Ok(batch) = inbox.try_recv() {
                    delivery.backlog.add(batch);
                }
                delivery.send(&access).await;
                if access.condition.is_behind() {
                    outbox_due = outbox_due.min(Instant::now() + poll);
                }
            }
            batch = inbox.recv() => match batch {
                Some(batch) => delivery.backlog.add(batch),
                None => return,
            },
            () = claims.left() => outbox_due = outbox_due.min(Instant::now() + poll),
            () = tokio::time::sleep_until(outbox_due), if delivery.backlog.is_empty() => {
                outbox_due = Instant::now() + match drain.run(&access).await {
                    Rest::Nothing => IDLE_POLL.max(poll),
                    Rest::Something => poll,
                };
            }
        }
    }
}
