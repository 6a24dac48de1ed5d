//! What the server does in one step.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/common.lua"), include_str!($file))))
    };
}

/// Hands out entries.
pub(super) static READ: LazyLock<Script> = script!("lua/read.lua");
/// How much waits.
pub(super) static DEPTH: LazyLock<Script> = script!("lua/depth.lua");
/// The life of the group.
pub(super) static EPOCH: LazyLock<Script> = script!("lua/epoch.lua");
/// Forgets what every group has finished.
pub(super) static TRIM: LazyLock<Script> = script!("lua/trim.lua");
