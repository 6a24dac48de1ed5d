//! The scripts that the server runs atomically.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/common.lua"), include_str!($file))))
    };
}

/// Claims pending entries and reads new ones.
pub(super) static READ: LazyLock<Script> = script!("lua/read.lua");
/// Counts unread, pending and dead entries.
pub(super) static DEPTH: LazyLock<Script> = script!("lua/depth.lua");
/// Reads dead letters, bounded in bytes.
pub(super) static LETTERS: LazyLock<Script> = script!("lua/letters.lua");
/// Reads or creates the life of the group, a part of the epoch, and looks for lost entries.
pub(super) static EPOCH: LazyLock<Script> = script!("lua/epoch.lua");
/// Creates the group.
pub(super) static GROUP: LazyLock<Script> = script!("lua/group.lua");
/// Adds a dead letter although the memory is full.
pub(super) static LETTER: LazyLock<Script> = script!("lua/letter.lua");
/// Sets how often an entry was delivered.
pub(super) static RECOUNT: LazyLock<Script> = script!("lua/recount.lua");
/// Adds to the number of lost entries.
pub(super) static LOST: LazyLock<Script> = script!("lua/lost.lua");
/// Trims the entries that every group has finished.
pub(super) static TRIM: LazyLock<Script> = script!("lua/trim.lua");
