#![allow(clippy::unwrap_used)]
use super::*;

fn read(disk: &CrashDisk, name: &str) -> Vec<u8> {
    let mut buffer = [0; 64];
    let length = disk.open(name).unwrap().read_at(0, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn a_crash_keeps_synced_bytes_and_any_prefix_of_the_others() {
    let disk = CrashDisk::default();
    let mut file = disk.create("f").unwrap();
    file.append(b"ab").unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    file.append(b"cd").unwrap();
    for (kept, expected) in [(0, "ab"), (1, "abc"), (2, "abcd")] {
        assert_eq!(read(&disk.crash(&mut |_| kept), "f"), expected.as_bytes());
    }
    assert!(file.append(b"e").is_err());
}

#[test]
fn a_crash_may_undo_creations_and_removals_without_a_directory_sync() {
    let disk = CrashDisk::default();
    disk.create("old").unwrap();
    disk.sync_dir().unwrap();
    disk.create("new").unwrap();
    disk.remove("old").unwrap();
    let names = |disk: CrashDisk| disk.list().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(disk.crash(&mut |_| 0)), ["old"]);
    assert_eq!(names(disk.crash(&mut |most| most)), ["new"]);
}

#[test]
fn the_power_can_fail_in_the_middle_of_a_write() {
    let disk = CrashDisk::default();
    let mut file = disk.create("f").unwrap();
    disk.power_off_after(3);
    file.append(b"ab").unwrap();
    assert!(file.append(b"cd").is_err());
    assert!(disk.sync_dir().is_err());
    assert_eq!(read(&disk.crash(&mut |most| most), "f"), b"abc");
}
