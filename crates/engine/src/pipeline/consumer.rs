//! Reading from the bus: one batch is kept ready, and a batch is split where its bytes exceed the bound.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use crate::pipeline::breakers::Breakers;
use crate::pipeline::in_flight::InFlight;
use crate::pipeline::waiting_room::WaitingRoom;
use crate::ports::{Bus, Delivery};
use crate::runtime::progress::Stop;
use crate::runtime::retry::Pauses;
use crate::runtime::settings::Settings;

/// The most bytes of fields, and of merged states, that are carried together; what is longer is carried alone.
pub(super) const TOGETHER_BYTES: usize = 4 << 20;

/// The pause after a read that did not fill a batch. A batch costs each store some calls, whatever its size: at a steady
/// rate, what arrives within the pause shares them. After a longer silence an event is read at once.
const PAUSE: Duration = Duration::from_millis(10);

/// Splits deliveries, in their order, so that the bytes of each group are bounded.
pub(super) fn cut_by_bytes(deliveries: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let (mut groups, mut bytes): (Vec<Vec<Delivery>>, usize) = (Vec::new(), 0);
    for delivery in deliveries {
        let length = delivery.bytes();
        match groups.last_mut() {
            Some(group) if bytes + length <= TOGETHER_BYTES => group.push(delivery),
            _ => {
                bytes = 0;
                groups.push(vec![delivery]);
            }
        }
        bytes += length;
    }
    groups
}

/// The next batch, once there is room for it, also among the waiting events.
pub(super) async fn next(
    deliveries: &mut mpsc::Receiver<Vec<Delivery>>,
    in_flight: &InFlight,
    (room, breakers): (&WaitingRoom, &Breakers),
) -> Option<Vec<Delivery>> {
    in_flight.room().await;
    room.amount.room(breakers).await;
    deliveries.recv().await
}

/// Keeps one batch ready. It has its own task, so that no other event interrupts a read.
pub(super) async fn read(bus: Arc<dyn Bus>, settings: Arc<Settings>, stop: Stop, batches: mpsc::Sender<Vec<Delivery>>) {
    let mut pauses = Pauses::new(&settings.worker);
    let mut due = Instant::now();
    while !stop.is_requested() {
        tokio::time::sleep_until(due).await;
        match bus.read(settings.worker.batch, settings.worker.wait).await {
            Ok(batch) => {
                pauses.reset();
                if (1..settings.worker.batch).contains(&batch.len()) {
                    due = Instant::now() + PAUSE;
                }
                if !batch.is_empty() && batches.send(batch).await.is_err() {
                    return;
                }
            }
            // Whatever the fault: nothing was read, so nothing is lost by another attempt.
            Err(fault) => {
                warn!(%fault, "the bus failed; retrying");
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}
