//! Whose turn it is: registering what is held, and making ready what no earlier entry of its chunk stands in front of.

use std::collections::HashSet;

use chunk_sync_engine::ports::{Delivery, EntryId};
use redis::Value;

use super::{Reader, SUSPECT};
use crate::redis::Shared;
use crate::redis::answer;
use crate::redis::fault::Error;
use crate::redis::order::{REGISTER, UNFINISHED, decode_pages, encode_page, mark_of};

/// What the others have.
struct Others {
    /// From this entry on nothing can be decided: it has been read and is not registered.
    limit: Option<EntryId>,
    pages: Vec<Vec<u8>>,
}

impl Reader {
    /// Registers what is held, and makes ready that whose turn has come, in the order of the stream.
    pub(super) async fn take_turns(&mut self, shared: &Shared) -> Result<(), Error> {
        if self.held.is_empty() && self.registered {
            return Ok(());
        }
        let Some(others) = self.register(shared).await? else {
            // Taken for dead: the next turn joins again.
            self.alive.iter().for_each(super::Alive::lapse);
            return Ok(());
        };
        let blocked = self.blocked(shared, &others).await?;
        self.pick_suspect(shared, &blocked).await?;
        for (id, held) in std::mem::take(&mut self.held) {
            let passes = held.attempt <= SUSPECT || self.suspect == Some(id);
            if passes && !blocked.contains(&id) {
                let delivery = Delivery { id, attempt: held.attempt, fields: held.fields };
                self.ready.push_back((delivery, held.page));
            } else {
                self.held.insert(id, held);
            }
        }
        Ok(())
    }

    /// Tells the others what is new here, and learns what they have; `None` where this consumer counts as dead.
    async fn register(&mut self, shared: &Shared) -> Result<Option<Others>, Error> {
        let keys = &shared.keys;
        let new = self.held.iter().filter(|(_, held)| held.page.is_none());
        let new: Vec<_> = new.filter_map(|(id, held)| Some((*id, mark_of(held.chunk?)))).collect();
        let lines = new.len();
        let page = (lines > 0).then(|| shared.ledger().open_page(lines));
        let shown = |id: Option<&EntryId>| id.map(ToString::to_string).unwrap_or_default();
        let highest = self.highest.map_or_else(|| "0-0".to_owned(), |id| id.to_string());
        let names = [&*keys.stream, &*keys.seen, &*keys.alive, &*keys.register];
        let answer = shared.connection.script(&REGISTER, &names, |command| {
            command.arg(&keys.group).arg(&keys.consumer).arg(&keys.register_prefix);
            command.arg(highest).arg(shown(self.held.keys().next_back()));
            if let Some(page) = page {
                command.arg(page).arg(encode_page(&new));
            }
        });
        // Until there is an answer, all lines of the page are void; which are registered anew, then on another page.
        self.void.extend(page.iter().flat_map(|page| std::iter::repeat_n(*page, lines)));
        let Value::Array(parts) = answer.await? else { return Ok(None) };
        self.void.truncate(self.void.len() - lines);
        for held in self.held.values_mut().filter(|held| held.page.is_none() && held.chunk.is_some()) {
            held.page = page;
        }
        // Everything that this consumer has stands on pages that hold.
        self.strike_void(shared);
        self.registered = true;
        let mut parts = parts.into_iter();
        let (Some(limit), Some(pages)) = (parts.next(), parts.next()) else {
            return Err(Error::Answer("what others have registered"));
        };
        let limit = match answer::bytes(limit)? {
            none if none.is_empty() => None,
            id => Some(answer::entry_id(Value::BulkString(id))?),
        };
        let pages = answer::list(pages)?.into_iter().map(answer::bytes).collect::<Result<_, _>>()?;
        Ok(Some(Others { limit, pages }))
    }

    /// What is held and has to wait: behind the limit, or behind an unfinished entry of its chunk that is another's or
    /// waits itself.
    async fn blocked(&self, shared: &Shared, others: &Others) -> Result<HashSet<EntryId>, Error> {
        let questions = self.questions(others)?;
        let unfinished = ask(shared, &questions).await?;
        let waits: HashSet<EntryId> =
            questions.iter().zip(unfinished).filter(|(_, is)| *is).map(|((id, _), _)| *id).collect();
        let (mut blocked, mut marks) = (HashSet::new(), HashSet::new());
        for (id, held) in &self.held {
            let Some(mark) = held.chunk.map(mark_of) else { continue };
            let behind = others.limit.is_some_and(|limit| *id >= limit);
            if behind || waits.contains(id) || marks.contains(&mark) {
                blocked.insert(*id);
                marks.insert(mark);
            } else if held.attempt > SUSPECT {
                // Itself it may go; what comes after it in its chunk goes once it is out.
                marks.insert(mark);
            }
        }
        Ok(blocked)
    }

    /// For what is held, the entries of others that stand in front of it: earlier, of its chunk, and not in front of an
    /// earlier one held here, which would wait for them too.
    fn questions(&self, others: &Others) -> Result<Vec<(EntryId, Vec<EntryId>)>, Error> {
        if others.pages.is_empty() {
            return Ok(Vec::new());
        }
        let mut theirs = decode_pages(&others.pages)?;
        let mut questions = Vec::new();
        for (id, held) in &self.held {
            let Some(entries) = held.chunk.and_then(|chunk| theirs.get_mut(&mark_of(chunk))) else { continue };
            let later = entries.split_off(entries.partition_point(|other| other < id));
            let earlier = std::mem::replace(entries, later);
            if !earlier.is_empty() {
                questions.push((*id, earlier));
            }
        }
        Ok(questions)
    }

    /// Lets a suspect go, unless one is out: of those whose turn has come, the least often delivered, so that what really
    /// kills comes last. It counts as delivered before it is.
    async fn pick_suspect(&mut self, shared: &Shared, blocked: &HashSet<EntryId>) -> Result<(), Error> {
        if self.suspect.is_some_and(|id| self.is_out(shared, id)) {
            return Ok(());
        }
        let suspects = self.held.iter().filter(|(id, held)| held.attempt > SUSPECT && !blocked.contains(id));
        let Some((id, held)) = suspects.min_by_key(|(_, held)| held.attempt) else {
            return Ok(());
        };
        let (id, keys) = (*id, &shared.keys);
        let mut command = redis::cmd("XCLAIM");
        command.arg(&keys.stream).arg(&keys.group).arg(&keys.consumer).arg(0).arg(id.to_string());
        command.arg("RETRYCOUNT").arg(held.attempt).arg("JUSTID");
        shared.connection.query::<Value>(&command).await?;
        self.suspect = Some(id);
        Ok(())
    }
}

/// For each question, whether one of its entries is unfinished at another consumer.
async fn ask(shared: &Shared, questions: &[(EntryId, Vec<EntryId>)]) -> Result<Vec<bool>, Error> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let keys = &shared.keys;
    let names = [&*keys.stream];
    let answers = shared.connection.script::<Vec<u64>>(&UNFINISHED, &names, |command| {
        command.arg(&keys.group).arg(&keys.consumer);
        for (_, entries) in questions {
            command.arg(entries.len());
            for entry in entries {
                command.arg(entry.to_string());
            }
        }
    });
    Ok(answers.await?.into_iter().map(|answer| answer == 1).collect())
}
