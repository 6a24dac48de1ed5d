//! Saying that this consumer lives: a key that vanishes by itself unless it is renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Cmd;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::Shared;
use super::fault::Error;

/// A consumer that has joined. Dropped, it leaves: others take what it had at once, instead of after it has been silent.
pub(super) struct Alive {
    lapsed: Arc<AtomicBool>,
    _leave: oneshot::Sender<()>,
}

impl Alive {
    /// Joins, and renews the key from then on.
    pub(super) async fn join(shared: &Arc<Shared>) -> Result<Self, Error> {
        let keys = &shared.keys;
        let mut pipe = redis::pipe();
        // Nothing that this consumer has counts as registered until it says so.
        pipe.atomic().hset(&keys.seen, &keys.consumer, "0-0").ignore();
        pipe.cmd("SET").arg(&keys.alive).arg(1).arg("PX").arg(millis(shared.alive_for)).ignore();
        shared.connection.pipeline::<()>(&pipe).await?;
        let lapsed = Arc::new(AtomicBool::new(false));
        let (leave, left) = oneshot::channel();
        tokio::spawn(renew(Arc::clone(shared), Arc::clone(&lapsed), left));
        Ok(Self { lapsed, _leave: leave })
    }

    /// Whether the key vanished once: others may have taken what this consumer had.
    pub(super) fn has_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::Acquire)
    }

    /// The key has vanished, as somebody else noticed. There is nothing to leave any more.
    pub(super) fn lapse(&self) {
        self.lapsed.store(true, Ordering::Release);
    }
}

async fn renew(shared: Arc<Shared>, lapsed: Arc<AtomicBool>, mut left: oneshot::Receiver<()>) {
    let mut ticks = interval(shared.alive_for / 5);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !lapsed.load(Ordering::Acquire) {
        tokio::select! {
            biased;
            _ = &mut left => {
                if !lapsed.load(Ordering::Acquire)
                    && let Err(error) = leave(&shared).await
                {
                    warn!(%error, "left without a word: others wait until this consumer has been silent long enough");
                }
                return;
            }
            _ = ticks.tick() => {}
        }
        let command = Cmd::pexpire(&shared.keys.alive, i64::try_from(millis(shared.alive_for)).unwrap_or(i64::MAX));
        match shared.connection.query::<bool>(&command).await {
            Ok(there) => lapsed.store(!there, Ordering::Release),
            // Reads fail as well and say so.
            Err(error) => debug!(%error, "cannot say that this consumer lives"),
        }
    }
}

/// Says that this consumer leaves: what it had not finished is for others.
pub(super) async fn leave(shared: &Shared) -> Result<(), Error> {
    let keys = &shared.keys;
    let mut pipe = redis::pipe();
    pipe.atomic().hset(&keys.seen, &keys.consumer, "left").ignore().del(&keys.alive).ignore();
    shared.connection.pipeline(&pipe).await
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
