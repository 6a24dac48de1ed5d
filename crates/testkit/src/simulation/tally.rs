//! Counts of what happened in a simulation: a run that holds is worth as much as the faults that it survived.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($name:ident: $what:literal),* $(,)?) => {
        /// Counts of what happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $(#[doc = $what] pub $name: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>9}  {}", self.$name, $what)?;)*
                Ok(())
            }
        }
    };
}

tally! {
    events: "events acknowledged to their publishers",
    published_again: "of them more than once on the bus",
    deliveries: "entries handed out",
    redelivered: "of them not for the first time",
    crashes: "processes killed",
    disk_failures: "of them by their disk",
    stops: "processes stopped in order",
    pauses: "processes that stood still",
    replayed: "operations replayed from the log",
    torn: "torn last lines cut off",
    flipped: "bits of the log flipped",
    damaged: "damaged lines set aside",
    refused: "calls refused",
    lost: "answers lost",
    late: "writes that reached a store after their call had timed out",
    partitions: "services cut off for a while",
    forgotten: "entries that the bus lost once they were in the log",
    pending_writes: "outbox entries recorded",
    waited: "operations set aside among the waiting events",
    troubles: "troubles of the field",
    dead: "bad entries dead-lettered",
    seconds: "simulated seconds",
}
