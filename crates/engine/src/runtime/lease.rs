//! The lease: standing by, taking over, renewing in time, and detecting that the term is over.
//!
//! # Times
//! A holder counts from the *beginning* of its last successful renewal, a standby from the *end* of the first read that
//! returned the same state as the latest read. The renewal took effect between the two. So a term (1.5 s) is over
//! before any standby (2 s) takes over, whatever the clocks of the machines show; only the speeds of their monotonic
//! clocks must agree within a quarter.
//!
//! # What a crash or a pause does
//! - A holder that dies or is paused renews nothing: a standby takes over 2 s after it last observed a renewal. The
//!   takeover waits for merges that the old holder has begun; later ones are refused because of their token.
//! - A holder that was paused and resumes detects that its term is over before it starts a merge or sends anything to a
//!   store. What it had sent before may still arrive: a late write, which its version guards. When the answer to such a
//!   write arrives, the chunks are compared with the record, and those with a newer version are put into the outbox
//!   (`store_writer.rs`).
//! - A holder that dies between the commit of [`Lease::take`] and its answer, or whose answer is lost, holds a lease
//!   that it does not use: the next one waits 2 s.
//! - A process that dies while it releases the lease has released it or not; if not, the next one waits 2 s.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use super::term::Term;
use crate::ports::{Fault, Handover, Lease, LeaseState};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;
use crate::runtime::shared_value::SharedValue;

/// How often a holder renews the lease.
const RENEWAL: Duration = Duration::from_millis(300);

/// How often a standby reads it.
const LOOK: Duration = Duration::from_millis(200);

/// The pause before a failed renewal is retried.
const RETRY: Duration = Duration::from_millis(50);

/// How long a renewal is valid.
const TERM: Duration = Duration::from_millis(1_500);

/// A lease that was not renewed for this long may be taken.
const STILL: Duration = Duration::from_secs(2);

/// The role of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another process holds the lease, or none does yet.
    Standby {
        /// The holder, by host and process id; empty if no renewal by another process was observed.
        holder: String,
    },
    /// This process holds the lease and carries events.
    Active,
}

/// Notifies a part of the service of the role of this process.
#[derive(Clone, Debug)]
pub struct Leadership(SharedValue<Role>);

impl Leadership {
    /// The current role of this process.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.read(Role::clone)
    }

    /// Waits until this process is active; never returns if the service has ended.
    pub(crate) async fn begins(&self) {
        self.turns(true).await;
    }

    /// The output of `work`; `None` if this process stopped being active first. `work` is dropped then.
    pub(crate) async fn during<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.turns(false) => None,
            output = work => Some(output),
        }
    }

    async fn turns(&self, active: bool) {
        self.0.until(|role| (*role == Role::Active) == active).await;
    }
}

/// Keeps the lease for one process.
pub(crate) struct Keeper {
    lease: Arc<dyn Lease>,
    clock: Clock,
    role: SharedValue<Role>,
    /// The token of the last attempt to take the lease.
    token: Uuid,
    /// The token of another process that was observed to renew the lease.
    alive: Option<Uuid>,
}

impl Keeper {
    pub(crate) fn new(lease: Arc<dyn Lease>, clock: Clock) -> (Self, Leadership) {
        let role = SharedValue::new(Role::Standby { holder: String::new() });
        metrics::active(false);
        let leadership = Leadership(role.clone());
        (Self { lease, clock, role, token: Uuid::nil(), alive: None }, leadership)
    }

    /// Stands by until the lease can be taken, and takes it.
    pub(crate) async fn acquire(&mut self) -> (Term, Handover) {
        let mine = std::mem::replace(&mut self.token, Uuid::new_v4());
        let (mut seen, mut failing) = (None::<(LeaseState, Instant)>, false);
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(term)) => {
                    let before = seen.map(|(state, _)| state);
                    return (term, handover(before.as_ref(), mine));
                }
                Ok(None) => failing = false,
                Err(fault) if !std::mem::replace(&mut failing, true) => {
                    warn!(%fault, "could not read or take the lease of the stream; retrying");
                }
                Err(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the lease, and takes it if it is free or was not renewed for [`STILL`].
    async fn attempt(&mut self, seen: &mut Option<(LeaseState, Instant)>) -> Result<Option<Term>, Fault> {
        let state = self.lease.state().await?;
        let now = Instant::now();
        if seen
            .as_ref()
            .is_some_and(|(earlier, _)| earlier.token == state.token && earlier.heartbeat != state.heartbeat)
        {
            self.alive = state.token;
        }
        let since = seen.take().filter(|(earlier, _)| *earlier == state).map_or(now, |(_, since)| since);
        self.stands_by(&state);
        let free = state.token.is_none_or(|token| token == self.token) || now - since >= STILL;
        *seen = Some((state.clone(), since));
        if !free || !self.lease.take(&state, self.token).await? {
            return Ok(None);
        }
        // The take may have waited long for merges of the old holder: the term counts from a renewal.
        let began = Instant::now();
        if !self.lease.renew(self.token).await? {
            return Ok(None);
        }
        info!(before = state.holder, "took the lease; this process is active");
        self.role.change(|role| *role = Role::Active);
        metrics::active(true);
        Ok(Some(Term::new(self.token, began + TERM)))
    }

    fn stands_by(&self, state: &LeaseState) {
        // A holder whose renewals were never observed may be dead.
        let alive = state.token.is_some() && state.token == self.alive;
        let holder = if alive { state.holder.clone() } else { String::new() };
        self.role.change(|role| {
            let standby = Role::Standby { holder };
            if *role != standby
                && let Role::Standby { holder } = &standby
            {
                info!(holder, "standing by; another process holds the lease, or none does yet");
            }
            *role = standby;
        });
    }

    /// Renews the lease. Returns when the renewals have failed for longer than the term, or another process holds the
    /// lease.
    pub(crate) async fn keep(&self, term: &Term) {
        let mut pause = RENEWAL;
        loop {
            tokio::select! {
                biased;
                () = term.doubted() => {}
                () = sleep(pause) => {}
            }
            let Some(end) = *term.until() else {
                warn!("the term of the lease ended before it was renewed; standing by");
                return;
            };
            let began = Instant::now();
            let renewed = tokio::select! {
                biased;
                renewed = self.lease.renew(self.token) => renewed,
                () = self.clock.sleep_until(end) => {
                    warn!("could not renew the lease of the stream in time; standing by");
                    return;
                }
            };
            match renewed {
                Ok(true) => {
                    term.renewed(began + TERM);
                    pause = RENEWAL;
                }
                Ok(false) => {
                    warn!("another process has taken the lease of the stream; standing by");
                    return;
                }
                Err(fault) => {
                    tracing::debug!(%fault, "could not renew the lease of the stream; retrying");
                    pause = RETRY;
                }
            }
            if !term.holds() {
                return;
            }
        }
    }

    /// Ends the term: what is under way is dropped.
    pub(crate) fn lost(&self, term: &Term) {
        term.end();
        self.role.change(|role| *role = Role::Standby { holder: String::new() });
        metrics::active(false);
    }

    /// Releases the lease if this process holds it or may hold it.
    pub(crate) async fn release(&self) {
        self.role.change(|role| *role = Role::Standby { holder: String::new() });
        metrics::active(false);
        match tokio::time::timeout(TERM, self.lease.release(self.token)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => warn!(%fault, "could not release the lease; the next holder waits 2 s"),
            Err(_) => warn!("could not release the lease in time; the next holder waits 2 s"),
        }
    }
}

/// How the holder ended that the lease showed before this process took it. `mine` is the token that this process had
/// before.
fn handover(before: Option<&LeaseState>, mine: Uuid) -> Handover {
    match before {
        // Before the lease existed the holder is unknown.
        Some(LeaseState { heartbeat: 0, .. }) | None => Handover::Silent,
        Some(LeaseState { token: None, .. }) => Handover::Orderly,
        Some(LeaseState { token: Some(token), .. }) if *token == mine => Handover::Orderly,
        Some(_) => Handover::Silent,
    }
}

#[cfg(test)]
mod tests;
