//! The connection from a process to a service.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use tokio::time::sleep;

use super::faults::{Endpoint, Fate, Faults, refusal};
use super::life::Life;

/// The connection from a process to a service.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) faults: Arc<Faults>,
    pub(super) life: Arc<Life>,
    pub(super) place: Endpoint,
}

impl Way {
    /// Makes a call, subject to the drawn faults.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let fate = self.set_out().await;
        if let Fate::Refused(fault) = fate {
            return Err(fault);
        }
        let answer = self.unless_dead(call).await;
        self.come_back().await;
        match fate {
            Fate::Lost => Err(self.lost()),
            _ => answer,
        }
    }

    pub(super) fn lost(&self) -> Fault {
        refusal(FaultClass::Timeout)
    }

    /// The request alone, for calls that only wait.
    pub(super) async fn passes(&self) -> Result<(), Fault> {
        match self.set_out().await {
            Fate::Done => Ok(()),
            Fate::Refused(fault) => Err(fault),
            Fate::Lost => Err(self.lost()),
        }
    }

    /// The request: it may take long, and the process may die.
    pub(super) async fn set_out(&self) -> Fate {
        self.step().await;
        let (fate, delay) = self.faults.fault_state().fate(self.place);
        self.wait(delay).await;
        fate
    }

    /// The answer: the call took effect, but the process does not know it yet.
    pub(super) async fn come_back(&self) {
        self.step().await;
        let delay = self.faults.fault_state().delay_after(self.place);
        self.wait(delay).await;
    }

    pub(super) async fn unless_dead<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.life.over() => std::future::pending().await,
            answer = call => answer,
        }
    }

    async fn wait(&self, time: Duration) {
        if time > Duration::ZERO {
            sleep(time).await;
        }
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    async fn step(&self) {
        let last = !self.faults.is_calm()
            && self.life.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                u64::MAX => None,
                left => Some(left.saturating_sub(1)),
            }) == Ok(1);
        if last {
            self.life.end();
        }
        if !self.faults.is_calm() && self.life.falls_asleep() {
            self.faults.fault_state().tally.pauses += 1;
        }
        self.life.awake().await;
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
