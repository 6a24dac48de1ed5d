//! Tests the log against a model, on a disk that crashes at any byte and fails at any sync.
//!
//! A failing case is shrunk and printed with its seed; set `PROPTEST_RNG_SEED` to replay it. `PROPTEST_CASES` sets the
//! number of cases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_wal::testing::CrashDisk;
use chunk_sync_wal::{Completion, Entry, Options, Origin, Outcome, Pending, Wal, WalError, inspect_on};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

const OPTIONS: Options = Options { max_bytes: 4096 };

#[derive(Debug, Clone)]
enum Step {
    /// Append this many operations, each with a text of this length.
    Append(usize, usize),
    /// Complete the pending operations at the positions (modulo 8) whose bit is set.
    Complete(u8),
    /// Move the clock by minutes, forward or back.
    Clock(i64),
    Retire(u64),
    Reclaim,
    Sync,
    /// End the process; the disk keeps all writes.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..4, 0_usize..60).prop_map(|(count, text)| Step::Append(count, text)),
        5 => any::<u8>().prop_map(Step::Complete),
        3 => (-90_i64..150).prop_map(Step::Clock),
        2 => (0_u64..180).prop_map(Step::Retire),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Sync),
        1 => Just(Step::Restart),
    ]
}

/// One run of the machine: the steps, the work after which the power fails, and the choices of what survives.
type Run = (Vec<Step>, u64, Vec<u16>);

fn run() -> impl Strategy<Value = Run> {
    (prop::collection::vec(step(), 1..24), 0_u64..6000, prop::collection::vec(any::<u16>(), 1..12))
}

/// What the log must hold by its guarantees.
#[derive(Debug, Default)]
struct Model {
    /// Every operation that was passed to `append`, by number.
    tried: BTreeMap<u64, Entry>,
    /// Appended successfully, and not passed to `complete`.
    must: BTreeSet<u64>,
    /// Pending or not after a crash: the append failed, or the completion is not synced.
    may: BTreeSet<u64>,
}

impl Model {
    /// After a successful sync, completions are durable. While the log is not poisoned, only completions are uncertain.
    fn synced(&mut self) {
        self.may.clear();
    }

    fn check(&self, entries: &[Entry]) -> Result<BTreeSet<u64>, TestCaseError> {
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.operation_id.parse().unwrap()).collect();
        for (number, entry) in numbers.iter().zip(entries) {
            prop_assert_eq!(self.tried.get(number), Some(entry), "never appended, or changed");
            prop_assert!(
                self.must.contains(number) || self.may.contains(number),
                "{} is pending, but its completion was durable",
                number
            );
        }
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "out of order: {:?}", numbers);
        let recovered: BTreeSet<u64> = numbers.into_iter().collect();
        prop_assert!(self.must.is_subset(&recovered), "lost: {:?}", self.must.difference(&recovered));
        Ok(recovered)
    }
}

struct Machine {
    disk: CrashDisk,
    wal: Wal,
    now: Timestamp,
    model: Model,
    next: u64,
}

impl Machine {
    /// Performs a step; returns `false` if the log is poisoned.
    fn step(&mut self, step: &Step) -> Result<bool, TestCaseError> {
        let done = match step {
            Step::Append(count, text) => self.append(*count, *text),
            Step::Complete(mask) => self.complete(*mask),
            Step::Clock(minutes) => {
                self.now += SignedDuration::from_mins(*minutes);
                Ok(())
            }
            Step::Retire(minutes) => self.wal.retire(self.now, Duration::from_secs(minutes * 60)).map(drop),
            Step::Reclaim => self.wal.reclaim().map(drop),
            Step::Sync => self.wal.sync().map(|()| self.model.synced()),
            Step::Restart => return self.restart(),
        };
        match done {
            Ok(()) | Err(WalError::Full { .. }) => {
                prop_assert_eq!(self.wal.pending(), self.model.must.len());
                Ok(true)
            }
            Err(WalError::Disk { .. }) => Ok(false),
            Err(error) => Err(TestCaseError::fail(format!("{step:?}: {error}"))),
        }
    }

    fn append(&mut self, count: usize, text: usize) -> Result<(), WalError> {
        let numbers = self.next..self.next + count as u64;
        let entry = |number: u64| Entry {
            operation_id: number.to_string(),
            operation: format!(r#"{{"number":{number},"text":"{}"}}"#, "\u{2028}é\\n".repeat(text)),
            origin: (number % 2 == 1).then(|| Origin { entry: format!("{number}-0").into(), epoch: "life".into() }),
            replays: 0,
        };
        let entries: BTreeMap<u64, Entry> = numbers.clone().map(|number| (number, entry(number))).collect();
        let pending = |entry| {
            let Entry { operation_id, operation, origin, .. }: &Entry = entry;
            Pending { origin: origin.clone(), ..Pending::new(operation_id, operation) }
        };
        let batch: Vec<Pending<'_>> = entries.values().map(pending).collect();
        let done = self.wal.append(&batch, self.now);
        if matches!(done, Err(WalError::Full { .. })) {
            return done;
        }
        self.next = numbers.end;
        self.model.tried.extend(entries);
        match done {
            Ok(()) => {
                self.model.synced();
                self.model.must.extend(numbers);
            }
            Err(_) => self.model.may.extend(numbers),
        }
        done
    }

    fn complete(&mut self, mask: u8) -> Result<(), WalError> {
        let chosen = |(place, number): (usize, &u64)| (mask >> (place % 8) & 1 == 1).then_some(*number);
        let numbers: Vec<u64> = self.model.must.iter().enumerate().filter_map(chosen).collect();
        let names: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let outcome = if mask.is_multiple_of(2) { Outcome::Complete } else { Outcome::Failed { error: "given up" } };
        let batch: Vec<_> = names.iter().map(|name| Completion { operation_id: name, outcome }).collect();
        let done = self.wal.complete(&batch, self.now);
        self.model.must.retain(|number| !numbers.contains(number));
        self.model.may.extend(numbers);
        done
    }

    /// Without a crash, all writes are there, synced or not.
    fn restart(&mut self) -> Result<bool, TestCaseError> {
        let Ok((wal, recovery)) = Wal::open_on(Arc::new(self.disk.clone()), OPTIONS) else {
            return Ok(false);
        };
        let Ok(entries) = recovery.pending.collect::<Result<Vec<_>, _>>() else {
            return Ok(false);
        };
        let recovered = self.model.check(&entries)?;
        prop_assert_eq!(&recovered, &self.model.must);
        self.model.synced();
        self.wal = wal;
        Ok(true)
    }

    /// After a crash: recovery finds exactly what the guarantees demand, and a second recovery finds the same.
    fn recover(disk: &CrashDisk, now: Timestamp, mut model: Model, next: u64) -> Result<Self, TestCaseError> {
        let report = inspect_on(disk).unwrap();
        let (wal, recovery) = Wal::open_on(Arc::new(disk.clone()), OPTIONS).unwrap();
        prop_assert_eq!(&recovery.damaged, &vec![], "a crash may leave a torn line, but no damaged one");
        prop_assert_eq!(recovery.torn, report.torn);
        let entries: Vec<_> = recovery.pending.collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(entries.len() as u64, report.pending);
        let recovered = model.check(&entries)?;
        drop(wal);

        let disk = disk.crash(&mut |_| 0);
        let (wal, again) = Wal::open_on(Arc::new(disk.clone()), OPTIONS).unwrap();
        prop_assert_eq!(again.torn, None);
        prop_assert_eq!(
            again.pending.collect::<Result<Vec<_>, _>>().unwrap(),
            entries,
            "a second recovery differs from the first"
        );
        (model.must, model.may) = (recovered, BTreeSet::new());
        Ok(Self { disk, wal, now, model, next })
    }
}

fn check(runs: Vec<Run>) -> Result<(), TestCaseError> {
    let start = "2026-11-23T04:15:00Z".parse().unwrap();
    let mut machine = Machine::recover(&CrashDisk::default(), start, Model::default(), 0)?;
    for (steps, power, choices) in runs {
        machine.disk.power_off_after(power);
        for step in &steps {
            if !machine.step(step)? {
                break;
            }
        }
        let mut choices = choices.into_iter().cycle();
        let disk = machine.disk.crash(&mut |most| usize::from(choices.next().unwrap()) % (most + 1));
        machine = Machine::recover(&disk, machine.now, machine.model, machine.next)?;
    }
    Ok(())
}

#[test]
fn the_guarantees_hold_after_a_crash_at_any_byte() {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one("seed"),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let runs = prop::collection::vec(run(), 1..5);
    if let Err(error) = TestRunner::new(config).run(&runs, check) {
        panic!("{error}\nreplay with PROPTEST_RNG_SEED={seed}");
    }
}

fn append(wal: &mut Wal, operation_id: &str, now: &str) -> Result<(), WalError> {
    wal.append(&[Pending::new(operation_id, r#"{"text":"t"}"#)], now.parse().unwrap())
}

fn open(disk: &CrashDisk) -> (Wal, Vec<String>) {
    let (wal, recovery) = Wal::open_on(Arc::new(disk.clone()), OPTIONS).unwrap();
    (wal, recovery.pending.map(|entry| entry.unwrap().operation_id).collect())
}

/// Tries each point of a fixed sequence of steps at which the power can fail, with several choices of what survives.
#[test]
fn a_short_run_can_end_at_any_byte() {
    let steps = [
        Step::Append(2, 1),
        Step::Complete(1),
        Step::Clock(60),
        Step::Append(1, 0),
        Step::Complete(255),
        Step::Clock(120),
        Step::Complete(255),
        Step::Append(1, 1),
        Step::Retire(0),
        Step::Restart,
        Step::Complete(255),
        Step::Reclaim,
        Step::Append(2, 0),
    ];
    for power in 0..2500 {
        for choice in [0, u16::MAX, 1, 7] {
            let run = (steps.to_vec(), power, vec![choice]);
            check(vec![run]).unwrap_or_else(|error| panic!("power {power}, choice {choice}: {error}"));
        }
    }
}

#[test]
fn the_note_of_a_replay_whose_operation_is_gone_is_no_operation() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap();
    drop(wal);
    let (mut wal, pending) = open(&disk);
    assert_eq!(pending, ["a"]);
    let later: Timestamp = "2026-11-23T06:15:00Z".parse().unwrap();
    wal.begin_again(&["a"], later).unwrap();
    wal.complete(&[Completion { operation_id: "a", outcome: Outcome::Complete }], later).unwrap();
    assert_eq!(wal.retire(later, Duration::ZERO).unwrap(), ["wal_20261123_04.jsonl"]);
    drop(wal);
    // The completion was not synced.
    let disk = disk.crash(&mut |_| 0);
    assert_eq!(open(&disk).1, [""; 0]);
}

#[test]
fn a_failed_sync_poisons_the_writer_until_the_log_is_opened_again() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap();
    disk.fail_next_sync();
    let failed = append(&mut wal, "b", "2026-11-23T04:15:01Z").unwrap_err();
    assert!(matches!(failed, WalError::Disk { action: "sync", .. }), "{failed}");

    let end = Completion { operation_id: "a", outcome: Outcome::Complete };
    let now: Timestamp = "2026-11-23T04:15:02Z".parse().unwrap();
    let later = [
        append(&mut wal, "c", "2026-11-23T04:15:02Z"),
        wal.complete(&[end], now),
        wal.sync(),
        wal.retire(now, Duration::ZERO).map(drop),
        wal.reclaim().map(drop),
    ];
    for refused in later {
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, WalError::Poisoned { cause } if cause.contains("sync failed on demand")),
            "{refused}"
        );
    }
    drop(wal);
    assert_eq!(open(&disk).1, ["a", "b"], "`b` is on the disk and is found, although its append failed");
    assert_eq!(open(&disk.crash(&mut |_| 0)).1, ["a", "b"], "opening the log made it durable");
}

#[test]
fn a_failed_write_poisons_the_writer_and_leaves_a_torn_line() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap();
    disk.fail_next_append_after(10);
    let failed = append(&mut wal, "b", "2026-11-23T04:15:01Z").unwrap_err();
    assert!(matches!(failed, WalError::Disk { action: "write", .. }), "{failed}");
    assert!(matches!(append(&mut wal, "b", "2026-11-23T04:15:01Z"), Err(WalError::Poisoned { .. })));
    drop(wal);
    let (_, recovery) = Wal::open_on(Arc::new(disk.clone()), OPTIONS).unwrap();
    assert_eq!((recovery.torn.map(|torn| torn.bytes), recovery.pending.len()), (Some(10), 1));
}

#[test]
fn a_failed_sync_of_the_directory_poisons_the_writer() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    disk.fail_next_sync();
    let failed = append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap_err();
    assert!(matches!(failed, WalError::Disk { action: "sync the directory of", .. }), "{failed}");
    assert!(matches!(append(&mut wal, "a", "2026-11-23T04:15:00Z"), Err(WalError::Poisoned { .. })));
}

#[test]
fn a_removal_without_a_directory_sync_poisons_the_writer() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap();
    let end = Completion { operation_id: "a", outcome: Outcome::Complete };
    wal.complete(&[end], "2026-11-23T04:15:01Z".parse().unwrap()).unwrap();
    disk.fail_next_sync();
    assert!(matches!(wal.reclaim(), Err(WalError::Disk { .. })));
    assert!(matches!(append(&mut wal, "b", "2026-11-23T04:15:02Z"), Err(WalError::Poisoned { .. })));
}

#[test]
fn an_orderly_shutdown_leaves_nothing_to_replay() {
    let disk = CrashDisk::default();
    let (mut wal, _) = open(&disk);
    append(&mut wal, "a", "2026-11-23T04:15:00Z").unwrap();
    let end = Completion { operation_id: "a", outcome: Outcome::Complete };
    wal.complete(&[end], "2026-11-23T04:15:01Z".parse().unwrap()).unwrap();
    wal.sync().unwrap();
    assert_eq!(open(&disk.crash(&mut |_| 0)).1, [""; 0]);
}

#[test]
fn a_full_disk_refuses_appends_and_recovers_once_operations_complete() {
    let disk = CrashDisk::default();
    disk.set_capacity(1000);
    let (mut wal, _) = Wal::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let now = "2026-11-23T04:15:00Z".parse().unwrap();
    let operation = format!(r#"{{"x":"{}"}}"#, "y".repeat(300));
    let ids: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let mut kept = Vec::new();
    for id in &ids {
        match wal.append(&[Pending::new(id, &operation)], now) {
            Ok(()) => kept.push(id.as_str()),
            Err(error) => {
                assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
                break;
            }
        }
    }
    assert_eq!(kept.len(), 2);
    // The next start finds what was kept, and can begin it again although there is no space for a note.
    drop(wal);
    let (mut wal, recovery) = Wal::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    assert!(recovery.torn.is_none(), "the part that did not fit was cut off");
    assert_eq!(recovery.pending.map(|entry| entry.unwrap().operation_id).collect::<Vec<_>>(), kept);
    wal.begin_again(&kept, now).unwrap();
    let ends: Vec<_> = kept.iter().map(|id| Completion { operation_id: id, outcome: Outcome::Complete }).collect();
    wal.complete(&ends, now).unwrap();
    wal.reclaim().unwrap();
    wal.append(&[Pending::new("later", &operation)], now).unwrap();
    let (_, recovery) = Wal::open_on(Arc::new(disk.crash(&mut |_| 0)), Options::default()).unwrap();
    assert_eq!(recovery.pending.map(|entry| entry.unwrap().operation_id).collect::<Vec<_>>(), ["later"]);
}
