//! Failpoints: places at which the process can be made to end as `kill -9` ends it, so that the claims of this module
//! can be tested with the program itself and on real servers.
//!
//! | point | what happened just before | what a crash there could lose | why it does not | what is repeated |
//! |---|---|---|---|---|
//! | `read` | the bus handed out entries | the entries | they are not acknowledged, and are claimed or handed out again | nothing |
//! | `logged` | the batch was synced to the log | the batch | it is pending in the log, and on the bus | nothing was done yet |
//! | `merged` | row, record and pending writes were committed | the writes to the stores | the log replays the batch: a merged change is found in its record, and is sent to the stores all the same | the merge, which changes nothing |
//! | `stored` | one store has written its batch | the writes to the other stores | the same | that store's write, which its version guards |
//! | `outbox` | the writes that a store misses were put into the outbox | those writes | they were committed | the outbox entry, under the same version |
//! | `drained` | a store has taken writes from its outbox | their removal from the outbox | the outbox sends them once more | that store's write, guarded |
//! | `dead_lettered` | a dead letter was written | the completion | the letter exists, and its entry was acknowledged in the same step | of an operation that only the log had: the letter |
//! | `completed` | the log recorded the end of the batch | the acknowledgement | the entries are handed out again | the whole batch, which changes nothing |
//! | `acknowledged` | the entries were acknowledged on the bus | nothing | the completion may not be on disk yet | a replay of the batch, which changes nothing |
//! | `captured` | signals for changed rows are on the bus | the fact that they are | the position was not confirmed | the signals, each of which reads a row that is as it was last read |
//! | `confirmed` | a position was confirmed to the server | nothing: the entries up to it are finished | | if the server has not received it yet, the signals |

//! If the merge finishes the entries of the bus (PostgreSQL without Redis), `logged`, `completed` and `acknowledged`
//! are never reached, and the others mean this:
//!
//! | point | what happened just before | what a crash there could lose | why it does not | what is repeated |
//! |---|---|---|---|---|
//! | `read` | the bus handed out entries | the entries | they are in the table, and are handed out again | nothing |
//! | `merged` | row, record, outbox and the end of the entries were committed | the writes to the stores | they are in the outbox, and the next process drains it | nothing |
//! | `stored` | one store has written its batch | the fact that it has, and the writes to the others | the outbox has both | that store's write, which its version guards |
//! | `outbox` | a store did not answer for long, and its writes are left to the outbox | nothing: they are there since the merge | | nothing |
//! | `drained` | stores hold their writes, which are about to be removed from the outbox | the fact that they hold them | the outbox sends them once more | those writes, guarded |
//! | `dead_lettered` | a dead letter was written; if the merge refused the event, its entry ended in the same transaction | nothing | the letter exists | a write that a store refused is still in the outbox, and is refused again |
//! | `captured` | signals are committed beside the rows | the fact that they are | the position was not confirmed | the signals |
//! | `confirmed` | a position was confirmed to the server | nothing: its signals are as durable as the rows | | if the server has not received it yet, the signals |

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! points {
    ($($point:ident = $name:literal,)*) => {
        /// A failpoint; the tables of the module describe each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the tables of the module describe each")]
        pub enum CrashPoint { $($point,)* }

        impl CrashPoint {
            /// All failpoints, in the order in which a batch reaches them.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// The name of the failpoint, as [`CrashAt`] parses it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    Read = "read",
    Logged = "logged",
    Merged = "merged",
    Stored = "stored",
    Enqueued = "enqueued",
    Drained = "drained",
    DeadLettered = "dead_lettered",
    Completed = "completed",
    Acknowledged = "acknowledged",
    Captured = "captured",
    Confirmed = "confirmed",
}

/// A failpoint and the pass on which it takes effect, counted from 1: `merged`, `merged:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashAt {
    /// The failpoint.
    pub point: CrashPoint,
    /// The pass, from 1.
    pub time: u32,
}

impl FromStr for CrashAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, time) = text.split_once(':').unwrap_or((text, "1"));
        let point = CrashPoint::ALL.iter().find(|point| point.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = CrashPoint::ALL.iter().map(|point| point.as_str()).collect();
            format!("`{name}` is not a failpoint; use one of {}", names.join(", "))
        })?;
        let time = time.parse().ok().filter(|time| *time > 0);
        Ok(Self { point: *point, time: time.ok_or_else(|| format!("`{text}`: the pass must be a number from 1"))? })
    }
}

/// The effect of a failpoint.
type Action = fn();

static ARMED: OnceLock<(CrashAt, Action, AtomicU32)> = OnceLock::new();

/// Makes this process abort there: nothing is flushed or closed. Only the first call of this or [`arm_with`] has an
/// effect.
pub fn arm(at: CrashAt) {
    arm_with(at, || std::process::abort());
}

/// Makes this process call `action` there, for example to stop without ending.
pub fn arm_with(at: CrashAt, action: fn()) {
    ARMED.get_or_init(|| (at, action, AtomicU32::new(0)));
}

/// Runs the action if this pass of this failpoint is armed.
pub(crate) fn reached(point: CrashPoint) {
    let Some((at, action, times)) = ARMED.get() else { return };
    if at.point == point && times.fetch_add(1, Ordering::Relaxed) + 1 == at.time {
        action();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_parsed_from_its_name_and_pass() {
        for point in CrashPoint::ALL {
            assert_eq!(point.as_str().parse(), Ok(CrashAt { point: *point, time: 1 }));
        }
        assert_eq!("merged:3".parse(), Ok(CrashAt { point: CrashPoint::Merged, time: 3 }));
        assert!("nowhere".parse::<CrashAt>().is_err_and(|error| error.contains("acknowledged")));
        assert!("merged:0".parse::<CrashAt>().is_err() && "merged:x".parse::<CrashAt>().is_err());
    }
}
