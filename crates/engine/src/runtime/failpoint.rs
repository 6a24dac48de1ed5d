//! Places at which the process can be told to end as `kill -9` ends it, so that what this module says can be tried on the
//! program itself and on real servers.
//!
//! | point | what happened just before | a crash there could lose | why it does not | what is repeated |
//! |---|---|---|---|---|
//! | `read` | entries were handed out by the bus | the entries | they are not acknowledged, and are claimed or handed out again | nothing |
//! | `logged` | the batch was synced to the log | the batch | it is pending in the log, and on the bus | nothing was done yet |
//! | `merged` | row, record and debts were committed | what the stores were to be told | the log replays the batch: a merged change is found in its record, and is told to the stores all the same | the merge, to nothing |
//! | `stored` | one store has written its batch | what the other stores were to be told | the same | that store's write, which its version guards |
//! | `owed` | what a store misses was recorded as its debt | the debt | it was committed | the debt, under the same version |
//! | `paid` | a store has taken what it owed | that the debt is paid | it is paid once more | that store's write, guarded |
//! | `buried` | a dead letter was written | the completion | the letter lies among the dead with its entry acknowledged in the same step | of an operation that only the log had: the letter |
//! | `completed` | the log was told that the batch ended | the acknowledgement | the entries are handed out again | the whole batch, to nothing |
//! | `acknowledged` | the bus was told so | nothing | the completion may not be on disk yet | a replay of the batch, to nothing |
//! | `captured` | signals for touched rows are on the bus | that they are | the position was not confirmed | the signals, each a look at a row that is as it was last seen |
//! | `confirmed` | a position was confirmed to the server | nothing: the entries up to it are finished | | where the server was not told yet, the signals |

//! Where the merge finishes the entries of the bus (PostgreSQL without Redis), `logged`, `completed` and `acknowledged` are
//! never reached, and the others mean this:
//!
//! | point | what happened just before | a crash there could lose | why it does not | what is repeated |
//! |---|---|---|---|---|
//! | `read` | entries were handed out by the bus | the entries | they are in the table, and are handed out again | nothing |
//! | `merged` | row, record, outbox and the end of the entries were committed | what the stores were to be told | the outbox has it, and the next process drains it | nothing |
//! | `stored` | one store has written its batch | that this is so, and what the others were to be told | the outbox has both | that store's write, which its version guards |
//! | `owed` | a store did not answer for long, and its writes are left to the outbox | nothing: they are there since the merge | | nothing |
//! | `paid` | stores hold their writes, which are about to be struck off | that they hold them | the outbox sends them once more | those writes, guarded |
//! | `buried` | a dead letter was written; where the merge refused the event, its entry ended in the same transaction | nothing | the letter is there | what a store refused is still in the outbox, and is refused again |
//! | `captured` | signals are committed beside the rows | that they are | the position was not confirmed | the signals |
//! | `confirmed` | a position was confirmed to the server | nothing: its signals are as durable as the rows | | where the server was not told yet, the signals |

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! points {
    ($($point:ident = $name:literal,)*) => {
        /// A place to end at; what each means is told in the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "told in the module, with what a crash does there")]
        pub enum CrashPoint { $($point,)* }

        impl CrashPoint {
            /// Every one, in the order of a batch's way.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// Its name.
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
    Owed = "owed",
    Paid = "paid",
    Buried = "buried",
    Completed = "completed",
    Acknowledged = "acknowledged",
    Captured = "captured",
    Confirmed = "confirmed",
}

/// Where to end, and at which time of coming there, counted from 1: `merged`, `merged:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashAt {
    /// Where.
    pub point: CrashPoint,
    /// Which time.
    pub time: u32,
}

impl FromStr for CrashAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, time) = text.split_once(':').unwrap_or((text, "1"));
        let point = CrashPoint::ALL.iter().find(|point| point.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = CrashPoint::ALL.iter().map(|point| point.as_str()).collect();
            format!("`{name}` is none of {}", names.join(", "))
        })?;
        let time = time.parse().ok().filter(|time| *time > 0);
        Ok(Self { point: *point, time: time.ok_or_else(|| format!("`{text}`: which time must be a number from 1"))? })
    }
}

/// What is done there.
type Action = fn();

static ARMED: OnceLock<(CrashAt, Action, AtomicU32)> = OnceLock::new();

/// Has this process end there: nothing is flushed, nothing closed. Only the first call of this or [`arm_with`] counts.
pub fn arm(at: CrashAt) {
    arm_with(at, || std::process::abort());
}

/// Has this process do something else there, such as to stand still.
pub fn arm_with(at: CrashAt, action: fn()) {
    ARMED.get_or_init(|| (at, action, AtomicU32::new(0)));
}

/// Does what was armed for this place.
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
    fn a_place_is_told_by_its_name_and_which_time() {
        for point in CrashPoint::ALL {
            assert_eq!(point.as_str().parse(), Ok(CrashAt { point: *point, time: 1 }));
        }
        assert_eq!("merged:3".parse(), Ok(CrashAt { point: CrashPoint::Merged, time: 3 }));
        assert!("nowhere".parse::<CrashAt>().is_err_and(|error| error.contains("acknowledged")));
        assert!("merged:0".parse::<CrashAt>().is_err() && "merged:x".parse::<CrashAt>().is_err());
    }
}
