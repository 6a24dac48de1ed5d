//! Holding the lease: standing by, taking over, renewing in time, and knowing when the term is over.
//!
//! # Times
//! A holder counts from the *beginning* of its last successful renewal, a standby from the *end* of the first look that
//! showed what the latest look shows. The renewal took effect between the two. So a term (1.5 s) is over before any standby
//! (2 s) takes over, whatever the clocks of the machines show; only the speed of their monotonic clocks must agree within a
//! quarter.
//!
//! # What a crash or a pause does
//! - A holder that dies, or stands still, renews nothing: a standby takes over 2 s after it last saw a renewal. The takeover
//!   waits for merges that the old holder has begun; later ones are refused by their token.
//! - A holder that stood still and goes on finds its term over before it starts a merge or sends anything to a store. What
//!   it had sent before may still arrive: a late write, which its version guards. Where the answer to such a write comes
//!   back, the chunks are compared with the record and what was overtaken is put into the outbox (`lane.rs`).
//! - A holder that dies between the commit of [`Lease::take`] and its answer, or whose answer is lost, holds a lease that
//!   it does not use: the next one waits 2 s.
//! - A process that dies while it releases the lease has released it or not; if not, the next one waits 2 s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use crate::ports::{Fault, Fence, Handover, Lease, LeaseState};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;

/// How often a holder renews the lease.
const RENEWAL: Duration = Duration::from_millis(300);

/// How often a standby looks at it.
const LOOK: Duration = Duration::from_millis(200);

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// How long a renewal is good for.
const TERM: Duration = Duration::from_millis(1_500);

/// A lease that stood still for so long may be taken.
const STILL: Duration = Duration::from_secs(2);

/// What a process does about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another process works the stream, or none does yet.
    Standby {
        /// The holder, by host and process id; empty where none was seen to renew the lease.
        holder: String,
    },
    /// This process works the stream.
    Active,
}

/// Tells a part of the service when this process works the stream.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Role>);

impl Leadership {
    /// What the process does now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.borrow().clone()
    }

    /// Waits until this process works the stream; never ends where the service has ended.
    pub(crate) async fn begins(&self) {
        self.turns(true).await;
    }

    /// The output of `work`; `None` where the process ceased to work the stream first. `work` is dropped then.
    pub(crate) async fn during<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.turns(false) => None,
            output = work => Some(output),
        }
    }

    async fn turns(&self, active: bool) {
        let mut role = self.0.clone();
        if role.wait_for(|role| (*role == Role::Active) == active).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A term in which this process holds the lease. Clones are the same term.
#[derive(Clone, Debug)]
pub(crate) struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: Uuid,
    /// When the term ends unless it is renewed; `None` once it has ended, for good.
    until: Mutex<Option<Instant>>,
    doubted: Notify,
}

impl Term {
    fn new(token: Uuid, until: Instant) -> Self {
        Self(Arc::new(Inner { token, until: Mutex::new(Some(until)), doubted: Notify::new() }))
    }

    /// What a merge of this term must be fenced with.
    pub(crate) fn fence(&self) -> Fence {
        Fence { lease: Some(self.0.token), stores: None }
    }

    /// Whether this process may still start a merge and send to a store. Once it may not, it never may again: what was
    /// dropped because of it belongs to the next term.
    pub(crate) fn holds(&self) -> bool {
        let mut until = self.until();
        let holds = until.is_some_and(|until| Instant::now() < until);
        if !holds && until.take().is_some() {
            self.0.doubted.notify_one();
        }
        holds
    }

    /// Has the lease renewed at once: something was refused, perhaps because it is another's by now.
    pub(crate) fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    fn renewed(&self, until: Instant) {
        if let Some(end) = &mut *self.until() {
            *end = until.max(*end);
        }
    }

    fn end(&self) {
        *self.until() = None;
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the lease for one process.
pub(crate) struct Keeper {
    lease: Arc<dyn Lease>,
    clock: Clock,
    role: watch::Sender<Role>,
    /// The token of the last attempt to take the lease.
    token: Uuid,
    /// The token of another process that was seen to renew the lease.
    alive: Option<Uuid>,
}

impl Keeper {
    pub(crate) fn new(lease: Arc<dyn Lease>, clock: Clock) -> (Self, Leadership) {
        let (role, leadership) = watch::channel(Role::Standby { holder: String::new() });
        metrics::active(false);
        (Self { lease, clock, role, token: Uuid::nil(), alive: None }, Leadership(leadership))
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
                    warn!(%fault, "the lease of the stream cannot be read or taken: trying again");
                }
                Err(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    /// Looks at the lease, and takes it where it is free or stood still.
    async fn attempt(&mut self, seen: &mut Option<(LeaseState, Instant)>) -> Result<Option<Term>, Fault> {
        let state = self.lease.state().await?;
        let now = Instant::now();
        if seen.as_ref().is_some_and(|(earlier, _)| earlier.token == state.token && earlier.beat != state.beat) {
            self.alive = state.token;
        }
        let since = seen.take().filter(|(earlier, _)| *earlier == state).map_or(now, |(_, since)| since);
        self.stands_by(&state);
        let free = state.token.is_none_or(|token| token == self.token) || now - since >= STILL;
        *seen = Some((state.clone(), since));
        if !free || !self.lease.take(&state, self.token).await? {
            return Ok(None);
        }
        // Taking may have waited long for merges of the old holder: the term counts from a renewal.
        let began = Instant::now();
        if !self.lease.renew(self.token).await? {
            return Ok(None);
        }
        info!(before = state.holder, "this process works the stream from now on");
        self.role.send_replace(Role::Active);
        metrics::active(true);
        Ok(Some(Term::new(self.token, began + TERM)))
    }

    fn stands_by(&self, state: &LeaseState) {
        // A holder that was never seen to renew the lease may be dead.
        let alive = state.token.is_some() && state.token == self.alive;
        let holder = if alive { state.holder.clone() } else { String::new() };
        self.role.send_if_modified(|role| {
            let standby = Role::Standby { holder };
            let changed = *role != standby;
            if changed && let Role::Standby { holder } = &standby {
                info!(holder, "standing by: another process works the stream, or none does yet");
            }
            *role = standby;
            changed
        });
    }

    /// Renews the lease until that fails for longer than the term, or the lease is another's.
    pub(crate) async fn keep(&self, term: &Term) {
        let mut pause = RENEWAL;
        loop {
            tokio::select! {
                biased;
                () = term.0.doubted.notified() => {}
                () = sleep(pause) => {}
            }
            let Some(end) = *term.until() else { return };
            let began = Instant::now();
            let renewed = tokio::select! {
                biased;
                renewed = self.lease.renew(self.token) => renewed,
                () = self.clock.sleep_until(end) => {
                    warn!("the lease of the stream could not be renewed in time");
                    return;
                }
            };
            match renewed {
                Ok(true) => {
                    term.renewed(began + TERM);
                    pause = RENEWAL;
                }
                Ok(false) => {
                    warn!("another process has taken the lease of the stream");
                    return;
                }
                Err(fault) => {
                    tracing::debug!(%fault, "the lease of the stream could not be renewed");
                    pause = RETRY;
                }
            }
            if !term.holds() {
                return;
            }
        }
    }

    /// The term is over: what is under way is dropped.
    pub(crate) fn lost(&self, term: &Term) {
        term.end();
        self.role.send_replace(Role::Standby { holder: String::new() });
        metrics::active(false);
    }

    /// Gives the lease up if this process has it, or may have it.
    pub(crate) async fn release(&self) {
        self.role.send_replace(Role::Standby { holder: String::new() });
        metrics::active(false);
        match tokio::time::timeout(TERM, self.lease.release(self.token)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => warn!(%fault, "the lease of the stream was not released: others wait for 2 s"),
            Err(_) => warn!("the lease of the stream was not released in time: others wait for 2 s"),
        }
    }
}

/// What became of the holder that the lease showed before this process took it. `mine` is the token that this process had.
fn handover(before: Option<&LeaseState>, mine: Uuid) -> Handover {
    match before {
        // Nothing is known of who worked the stream before there was a lease.
        Some(LeaseState { beat: 0, .. }) | None => Handover::Silent,
        Some(LeaseState { token: None, .. }) => Handover::Orderly,
        Some(LeaseState { token: Some(token), .. }) if *token == mine => Handover::Orderly,
        Some(_) => Handover::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_release_and_its_own_token_are_an_orderly_handover() {
        let mine = Uuid::from_u128(1);
        let state = |token, beat| LeaseState { token, beat, holder: String::new() };
        assert_eq!(handover(Some(&state(None, 7)), mine), Handover::Orderly);
        assert_eq!(handover(Some(&state(Some(mine), 7)), mine), Handover::Orderly);
        assert_eq!(handover(Some(&state(Some(Uuid::from_u128(2)), 7)), mine), Handover::Silent);
        assert_eq!(handover(Some(&state(None, 0)), mine), Handover::Silent);
        assert_eq!(handover(None, mine), Handover::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_ended_is_not_renewed() {
        let term = Term::new(Uuid::nil(), Instant::now() + TERM);
        tokio::time::advance(TERM / 2).await;
        assert!(term.holds());
        term.renewed(Instant::now() + TERM);
        tokio::time::advance(TERM - Duration::from_millis(1)).await;
        assert!(term.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!term.holds());
        term.renewed(Instant::now() + TERM);
        assert!(!term.holds(), "what was dropped meanwhile belongs to the next term");
    }
}
