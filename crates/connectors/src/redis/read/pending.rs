//! Entries that are pending in the server: this consumer's own that it does not know of, and those of the dead.

use std::collections::BTreeMap;

use chunk_sync_engine::ports::EntryId;
use tokio::time::Instant;
use tracing::info;

use super::{LONGEST_BLOCK, Reader, SUSPECT};
use crate::redis::Shared;
use crate::redis::answer;
use crate::redis::fault::Error;
use crate::redis::order::CLAIM;

/// Entries handled by one command.
const PAGE: usize = 1_000;

impl Reader {
    /// Fetches what the server says this consumer has, and neither it nor the engine knows of.
    pub(super) async fn look_for_missed(&mut self, shared: &Shared) -> Result<(), Error> {
        let keys = &shared.keys;
        let mut after = "-".to_owned();
        loop {
            let mut command = redis::cmd("XPENDING");
            command.arg(&keys.stream).arg(&keys.group).arg(&after).arg("+").arg(PAGE).arg(&keys.consumer);
            let page = answer::pending(shared.connection.query(&command).await?)?;
            self.take_missed(shared, &page).await?;
            match page.last() {
                Some(last) if page.len() == PAGE => after = format!("({}", last.id),
                _ => break,
            }
        }
        self.nothing_missed = true;
        Ok(())
    }

    async fn take_missed(&mut self, shared: &Shared, page: &[answer::Pending]) -> Result<(), Error> {
        let missed: Vec<_> = page.iter().filter(|entry| !self.knows(shared, entry.id)).collect();
        if missed.is_empty() {
            return Ok(());
        }
        info!(entries = missed.len(), "taking up what was read and has not been handed out");
        let keys = &shared.keys;
        let mut command = redis::cmd("XCLAIM");
        command.arg(&keys.stream).arg(&keys.group).arg(&keys.consumer).arg(0);
        for entry in &missed {
            command.arg(entry.id.to_string());
        }
        let entries = answer::entries(shared.connection.query(&command).await?)?;
        let mut found: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.id, entry.fields)).collect();
        for entry in missed {
            match found.remove(&entry.id) {
                Some(fields) => self.keep(entry.id, entry.deliveries.saturating_add(1), fields),
                None => shared.lose(entry.id),
            }
        }
        Ok(())
    }

    fn knows(&self, shared: &Shared, id: EntryId) -> bool {
        self.held.contains_key(&id) || self.is_out(shared, id)
    }

    /// Takes what dead consumers left; whether there was any.
    pub(super) async fn claim(&mut self, shared: &Shared, max: usize) -> Result<bool, Error> {
        let every = (shared.alive_for / 5).min(LONGEST_BLOCK);
        if self.claimed_at.is_some_and(|at| at.elapsed() < every) {
            return Ok(false);
        }
        // After a pause of the server all keys have vanished: the living get as long to renew them as they had before.
        let silent = self.joined_at.is_some_and(|at| at.elapsed() >= shared.alive_for);
        let idle = u64::try_from(shared.claim_after.as_millis()).unwrap_or(u64::MAX);
        let keys = &shared.keys;
        self.nothing_missed = false;
        let names = [&*keys.stream, &*keys.seen];
        let answer = shared.connection.script_once(&CLAIM, &names, |command| {
            command.arg(&keys.group).arg(&keys.consumer).arg(&keys.alive_prefix).arg(&keys.register_prefix);
            command.arg(max.clamp(1, PAGE)).arg(idle).arg(u8::from(silent)).arg(SUSPECT);
        });
        let mut parts = answer::list(answer.await?)?.into_iter();
        let (Some(entries), Some(deliveries), Some(gone)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Answer("what was claimed"));
        };
        let (entries, deliveries) = (answer::entries(entries)?, answer::list(deliveries)?);
        let claimed = !entries.is_empty();
        if claimed {
            info!(entries = entries.len(), "took over what another worker had not finished");
        }
        for (entry, deliveries) in entries.into_iter().zip(&deliveries) {
            self.keep(entry.id, answer::count(deliveries)?.saturating_add(1), entry.fields);
        }
        for id in answer::list(gone)? {
            shared.lose(answer::entry_id(id)?);
        }
        self.nothing_missed = true;
        // There may be more: then the next turn asks again at once.
        self.claimed_at = (!claimed || self.held.len() >= 2 * max).then(Instant::now);
        Ok(claimed)
    }
}
