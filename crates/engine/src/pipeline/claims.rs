//! Chunks whose writes are sent to a store directly while the outbox holds writes of them too. A claim keeps the drain
//! of the outbox away from these chunks until the store has answered the direct write.
//!
//! Without claims the drain could send a newer state of a chunk before an older one that still waits for the store
//! writer: if the newer one deletes the chunk, the store forgets its version, and the older one restores it. This
//! happens
//! - when the store falls behind between two merges of a chunk: the first write is sent directly, and the second one
//!   goes into the outbox;
//! - when the merge finishes the entries of the bus: then the outbox holds every write, and each would be sent twice.
//!
//! Claims are kept in memory only: after a crash no chunk is claimed, and the drain takes everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// The claims on one store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    chunks: Mutex<BTreeMap<Uuid, usize>>,
    /// A claim ended, and the outbox may still hold its writes.
    left: Notify,
}

/// A claim on some chunks, released when it is dropped. Unless it was [completed](Self::completed), the outbox may still
/// hold their writes, and the drain looks for them.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    ids: Vec<Uuid>,
    completed: bool,
}

impl Claims {
    /// Claims these chunks. Several claims on one chunk are counted: it stays claimed until the last one is dropped.
    pub(crate) fn claim(&self, ids: Vec<Uuid>) -> Claim {
        let mut chunks = self.lock();
        for id in &ids {
            *chunks.entry(*id).or_default() += 1;
        }
        drop(chunks);
        Claim { claims: self.clone(), ids, completed: false }
    }

    /// Waits until a claim ends whose writes the outbox may still hold.
    pub(crate) async fn left(&self) {
        self.0.left.notified().await;
    }

    /// The number of claimed chunks.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn contains(&self, id: Uuid) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, usize>> {
        self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Ends the claim: the outbox holds none of its writes any more.
    pub(crate) fn completed(mut self) {
        self.completed = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut chunks = self.claims.lock();
        for id in &self.ids {
            let left = chunks.get(id).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                chunks.remove(id);
            } else {
                chunks.insert(*id, left);
            }
        }
        drop(chunks);
        if !self.completed {
            self.claims.0.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_claimed_until_its_last_claim_is_dropped() {
        let (claims, chunk) = (Claims::default(), Uuid::max());
        let (first, second) = (claims.claim(vec![chunk]), claims.claim(vec![chunk, Uuid::nil()]));
        assert_eq!(claims.len(), 2);
        drop(first);
        assert!(claims.contains(chunk));
        drop(second);
        assert!(!claims.contains(chunk) && claims.len() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_claim_that_was_not_settled_makes_the_drain_look() {
        let claims = Claims::default();
        let notified = |within| tokio::time::timeout(within, claims.left());
        claims.claim(vec![Uuid::max()]).completed();
        assert!(notified(std::time::Duration::from_secs(60)).await.is_err());
        drop(claims.claim(vec![Uuid::max()]));
        assert!(notified(std::time::Duration::ZERO).await.is_ok());
    }
}
