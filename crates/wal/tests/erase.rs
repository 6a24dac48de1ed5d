//! Erasing: the content of ended operations leaves the disk, whatever a crash interrupts, and nothing else does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use chunk_sync_wal::disk::Disk;
use chunk_sync_wal::testing::CrashDisk;
use chunk_sync_wal::{Completion, Options, Outcome, Pending, Wal};
use jiff::Timestamp;

const SECRET: &str = "SECRET-4711";

fn at(hour: u32) -> Timestamp {
    format!("2026-11-23T{hour:02}:15:00Z").parse().unwrap()
}

/// Every byte of every file.
fn all(disk: &CrashDisk) -> String {
    let mut all = String::new();
    for (name, length) in disk.list().unwrap() {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        let read = disk.open(&name).unwrap().read_at(0, &mut bytes).unwrap();
        all.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    all
}

/// Ended operations with the secret in two files, one that failed with it in its error, a pending one and a public one.
fn filled(disk: &CrashDisk) -> Wal {
    let mut wal = Wal::open_on(Arc::new(disk.clone()), Options::default()).unwrap().0;
    let secret = format!(r#"{{"text":"{SECRET}"}}"#);
    for (id, operation, hour) in
        [("a", secret.as_str(), 4), ("b", r#"{"text":"public"}"#, 4), ("c", secret.as_str(), 5), ("d", "{\"n\":1}", 5)]
    {
        wal.append(&[Pending::new(id, operation)], at(hour)).unwrap();
    }
    let failed = Outcome::Failed { error: &format!("no {SECRET}") };
    wal.complete(&[Completion { operation_id: "a", outcome: failed }], at(5)).unwrap();
    for id in ["b", "c"] {
        wal.complete(&[Completion { operation_id: id, outcome: Outcome::Complete }], at(5)).unwrap();
    }
    wal
}

fn erase(wal: &mut Wal) -> Option<(u64, u64)> {
    wal.erase(&|operation| operation.contains(SECRET)).ok()
}

fn pending(disk: &CrashDisk) -> Vec<String> {
    let (_, recovery) = Wal::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    assert!(recovery.damaged.is_empty() && recovery.torn.is_none());
    recovery.pending.map(|entry| entry.unwrap().operation_id).collect()
}

#[test]
fn ended_operations_are_erased_from_every_file_and_the_others_stay() {
    let disk = CrashDisk::default();
    let mut wal = filled(&disk);
    assert_eq!(erase(&mut wal), Some((2, 0)));
    assert!(!all(&disk).contains(SECRET));
    assert!(all(&disk).contains("public") && all(&disk).contains("erased"));
    assert_eq!(erase(&mut wal), Some((0, 0)), "nothing is left");
    // The log goes on.
    wal.append(&[Pending::new("e", "{\"n\":2}")], at(5)).unwrap();
    drop(wal);
    assert_eq!(pending(&disk), ["d", "e"]);
}

#[test]
fn a_pending_operation_is_not_erased() {
    let disk = CrashDisk::default();
    let mut wal = filled(&disk);
    let secret = format!(r#"{{"text":"{SECRET}"}}"#);
    wal.append(&[Pending::new("f", &secret)], at(5)).unwrap();
    assert_eq!(erase(&mut wal), Some((2, 1)));
    drop(wal);
    assert_eq!(pending(&disk), ["d", "f"]);
}

#[test]
fn a_crash_at_any_point_leaves_a_log_in_which_it_can_be_repeated() {
    for work in 0..3_000 {
        let disk = CrashDisk::default();
        let mut wal = filled(&disk);
        // Completions may be lost until they are synced; their operations have then not ended.
        wal.sync().unwrap();
        disk.power_off_after(work);
        let done = erase(&mut wal).is_some();
        drop(wal);
        for keep in [0, usize::MAX] {
            let after = disk.crash(&mut |most| most.min(keep));
            assert_eq!(pending(&after), ["d"], "after {work} units");
            assert!(after.list().unwrap().iter().all(|(name, _)| !name.ends_with(".erasing")));
            assert!(all(&after).contains("public"));
            let mut wal = Wal::open_on(Arc::new(after.clone()), Options::default()).unwrap().0;
            erase(&mut wal).unwrap();
            assert!(!all(&after).contains(SECRET));
        }
        if done {
            return;
        }
    }
    panic!("the power never sufficed");
}
