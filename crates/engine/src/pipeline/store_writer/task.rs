//! The loop of a store writer: deliver what arrives, and drain the outbox while the store misses something. A call with
//! writes that are sent apart may be under way beside the call with all others.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::access::StoreAccess;
use super::backlog::WriteBatch;
use super::delivery::{Answered, Delivery};
use super::drain::{Found, OutboxDrain};

/// How often the outbox is read while it has something, at most.
const POLL: Duration = Duration::from_secs(1);

/// How often it is read otherwise: another process may have put a write into it, or renewed one that is refused.
const IDLE_POLL: Duration = Duration::from_secs(10);

/// Runs until the last sender of the inbox is dropped, and the calls under way have ended.
pub(super) async fn run(access: StoreAccess, mut drain: OutboxDrain, mut inbox: mpsc::UnboundedReceiver<WriteBatch>) {
    let mut delivery = Delivery::new(&access);
    let mut outbox_due = Instant::now();
    let poll = access.settings.retry_max.min(POLL);
    let claims = drain.claims().clone();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(answered) = calls.next() => {
                record(answered, &access, &mut delivery, &mut drain).await;
                if access.condition.is_behind() {
                    outbox_due = outbox_due.min(Instant::now() + poll);
                }
            }
            route = delivery.is_due(&access) => {
                // All that has arrived meanwhile goes along.
                while let Ok(batch) = inbox.try_recv() {
                    delivery.backlog.add(batch);
                }
                calls.extend(delivery.begin(route, &access, &mut drain).await.map(|call| call.send(&access)));
                if access.condition.is_behind() {
                    outbox_due = outbox_due.min(Instant::now() + poll);
                }
            }
            batch = inbox.recv() => match batch {
                Some(batch) => delivery.backlog.add(batch),
                None => break,
            },
            () = claims.left() => outbox_due = outbox_due.min(Instant::now() + poll),
            () = tokio::time::sleep_until(outbox_due), if delivery.is_idle() && access.term.holds() => {
                outbox_due = Instant::now() + match fill(&access, &mut delivery, &mut drain).await {
                    Found::Writes => Duration::ZERO,
                    Found::Claimed | Found::Rest => poll,
                    Found::Refused | Found::Nothing => IDLE_POLL.max(poll),
                };
            }
        }
    }
    // A call that is dropped could not compare its writes after the term.
    while let Some(answered) = calls.next().await {
        record(answered, &access, &mut delivery, &mut drain).await;
    }
}

async fn record(answered: Answered, access: &StoreAccess, delivery: &mut Delivery, drain: &mut OutboxDrain) {
    delivery.record(answered, access, drain).await;
    access.condition.set_heavy(delivery.isolation.culprits());
    drain.clear_durable(access).await;
}

/// Reads the outbox; a fault of the system of record counts as one of the store, whose condition is unknown then.
async fn fill(access: &StoreAccess, delivery: &mut Delivery, drain: &mut OutboxDrain) -> Found {
    match drain.fill(access, &mut delivery.backlog, !delivery.isolation.is_empty()).await {
        Ok(found) => found,
        Err(fault) => {
            access.condition.observe(access.target(), Some(&fault));
            Found::Rest
        }
    }
}
