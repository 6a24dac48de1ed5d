//! Where calls of `read` and turns of the reader meet. A call that is dropped leaves the turn alone, and the next call takes
//! what it brought.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::Delivery;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::fault::Error;
use super::read::Reader;

/// Where calls and turns meet.
#[derive(Default)]
pub(super) struct Desk {
    /// Away while a turn is under way.
    reader: Option<Reader>,
    under_way: Option<Turn>,
}

/// A turn under way; ends with the bus.
struct Turn(JoinHandle<(Reader, Result<(), Error>)>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Desk {
    /// Up to `max` entries whose turn has come; waits until `deadline` for the first.
    pub(super) async fn read(
        &mut self,
        shared: &Arc<Shared>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Delivery>, Error> {
        let mut looked = false;
        loop {
            let deliveries = self.reader.as_mut().map(|reader| reader.take_ready(shared, max)).unwrap_or_default();
            let wait = deadline.saturating_duration_since(Instant::now());
            if !deliveries.is_empty() || (looked && wait.is_zero()) {
                return Ok(deliveries);
            }
            self.turn(shared, max, wait).await?;
            looked = true;
        }
    }

    /// Ends whatever is under way; whether there was a reader at all.
    pub(super) fn close(&mut self) -> bool {
        let turn = self.under_way.take();
        let reader = self.reader.take();
        turn.is_some() || reader.is_some()
    }

    async fn turn(&mut self, shared: &Arc<Shared>, max: usize, wait: Duration) -> Result<(), Error> {
        let under_way = self.under_way.get_or_insert_with(|| {
            // One that got lost has left everything in the server's list.
            let reader = self.reader.take().unwrap_or_default();
            Turn(tokio::spawn(reader.turn(Arc::clone(shared), max, wait)))
        });
        let ended = (&mut under_way.0).await;
        self.under_way = None;
        let (reader, result) = ended?;
        self.reader = Some(reader);
        result
    }
}
