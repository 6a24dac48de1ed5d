//! What the stream holds, and what others removed from it: the depth, the epoch, lost entries, groups that make no
//! progress, and settings of the server that lose entries.
//!
//! Notes beside the stream (a hash) hold what the group had read when a script last looked. Entries that were removed
//! before the group read them are found by comparison with the stream's own counters: a trimming by the number of entries
//! ever added, a deletion one by one by the greatest deleted id. A loss begins a new life of the group, and so another
//! epoch: captured changes are captured again, and the log replays what it has.

use std::sync::atomic::Ordering;

use chunk_sync_engine::ports::Depth;
use uuid::Uuid;

use super::Shared;
use super::answer::{self, Life, Loss};
use super::config::check_server;
use super::fault::Error;
use super::scripts::{DEPTH, EPOCH, GROUP, LOST, TRIM};

/// What was last seen of the stream, for the number of entries that were lost with it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastCounts {
    added: u64,
    unfinished: u64,
}

impl LastCounts {
    /// The number of unfinished entries that a stream with `added` entries cannot hold any more.
    fn missing(self, added: u64) -> u64 {
        self.added.saturating_sub(added).min(self.unfinished)
    }
}

impl Shared {
    pub(super) async fn depth(&self) -> Result<Depth, Error> {
        let keys = &self.keys;
        let names = [&*keys.stream, &*keys.dead, &*keys.notes];
        let answer = self.connection.script(&DEPTH, &names, |command| {
            command.arg(&keys.group);
        });
        let measured = answer::depth(answer.await?)?;
        // A stream that shrank was replaced: the epoch counts what was lost, from what was seen before.
        let seen = &mut *self.seen();
        if measured.added >= seen.added {
            let unfinished = measured.depth.unread + measured.depth.pending;
            *seen = LastCounts { added: measured.added, unfinished };
        }
        Ok(measured.depth)
    }

    /// The epoch: the server's `run_id` and the life of the group. A restart may lose what was not on disk yet and changes
    /// the `run_id`; a stream or group that is created again, or that lost entries, has a new life.
    pub(super) async fn epoch(&self) -> Result<String, Error> {
        let facts: String = self.connection.query(redis::cmd("INFO").arg("server")).await?;
        let run = facts.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
        Ok(format!("{run} {}", self.life().await?))
    }

    async fn life(&self) -> Result<String, Error> {
        let life = match self.life_of_group().await {
            Err(error) if error.is_no_group() => {
                self.make_group().await?;
                self.life_of_group().await
            }
            life => life,
        }?;
        self.report(life.loss);
        // A replica that became the primary may lack the last entries.
        self.replaced(life.added).await?;
        Ok(life.name)
    }

    async fn life_of_group(&self) -> Result<Life, Error> {
        let (keys, new) = (&self.keys, Uuid::new_v4().simple().to_string());
        let names = [&*keys.stream, &*keys.notes];
        let answer = self.connection.script(&EPOCH, &names, |command| {
            command.arg(&keys.group).arg(&new);
        });
        answer::life(answer.await?)
    }

    /// Creates the group, and counts what was lost with the stream if it is another one.
    pub(super) async fn make_group(&self) -> Result<(), Error> {
        let names = [&*self.keys.stream, &*self.keys.notes];
        let answer = self.connection.script(&GROUP, &names, |command| {
            command.arg(&self.keys.group).arg(Uuid::new_v4().simple().to_string());
        });
        let added: u64 = answer.await?;
        self.replaced(added).await
    }

    /// Counts the entries that were lost if the stream holds fewer than it did.
    async fn replaced(&self, added: u64) -> Result<(), Error> {
        let missing = {
            let seen = &mut *self.seen();
            let missing = seen.missing(added);
            if added < seen.added {
                *seen = LastCounts { added, unfinished: 0 };
            }
            missing
        };
        if missing == 0 {
            return Ok(());
        }
        let names = [&*self.keys.notes];
        let answer = self.connection.script(&LOST, &names, |command| {
            command.arg(missing);
        });
        let total = answer.await?;
        self.report(Loss { found: true, now: missing, total });
        Ok(())
    }

    /// Reports entries that others removed.
    pub(super) fn report(&self, loss: Loss) {
        self.lost.store(loss.total, Ordering::Relaxed);
        if loss.found {
            tracing::error!(
                entries = loss.now,
                total = loss.total,
                stream = self.keys.stream,
                "entries of the stream were lost before they were finished (0: their number is counted later); captured \
                 changes are captured again, events of other publishers are lost; stop the client that trims the stream, \
                 deletes from it or reads for the group, and set maxmemory-policy to noeviction"
            );
        }
    }

    pub(super) async fn trim(&self) -> Result<u64, Error> {
        let keys = &self.keys;
        let names = [&*keys.stream, &*keys.others];
        let answer = self.connection.script(&TRIM, &names, |command| {
            let after = u64::try_from(self.idle_after.as_millis()).unwrap_or(u64::MAX);
            command.arg(&keys.group).arg(after).arg(u8::from(self.trim_past_idle));
        });
        let trimmed = answer::trimmed(answer.await?)?;
        *self.idle() = trimmed.idle;
        Ok(trimmed.entries)
    }

    /// Conditions that the operator must change, each with its remedy.
    pub(super) async fn warnings(&self) -> Result<Vec<String>, Error> {
        let info: String = self.connection.query(&redis::cmd("INFO")).await?;
        let mut warnings = match check_server(&info, &self.keys.stream, &self.keys.dead) {
            Ok(warning) => warning.into_iter().collect(),
            Err(fault) => vec![fault.message],
        };
        let ttl: i64 = self.connection.query(redis::cmd("PTTL").arg(&self.keys.stream)).await?;
        if ttl >= 0 {
            let stream = &self.keys.stream;
            warnings.push(format!(
                "the stream {stream} expires in {} s, and its events with it; run `PERSIST {stream}` in Redis",
                ttl / 1000
            ));
        }
        let idle = self.idle().clone();
        warnings.extend(idle.iter().map(|group| {
            let does = if self.trim_past_idle { "is trimmed past" } else { "holds the trimming of the stream up" };
            format!(
                "the group {} made no progress for {} h and {does}; run `XGROUP DESTROY {} {}` if no program reads it",
                group.name,
                group.millis / 3_600_000,
                self.keys.stream,
                group.name
            )
        }));
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replaced_stream_cannot_hold_is_missing() {
        let seen = LastCounts { added: 100, unfinished: 30 };
        assert_eq!(seen.missing(100), 0, "it is the same stream");
        assert_eq!(seen.missing(90), 10, "the last ten did not reach the replica");
        assert_eq!(seen.missing(0), 30, "what was finished is not lost");
    }
}
