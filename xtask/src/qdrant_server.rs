//! The test server for Qdrant, a separate workspace because it compiles Qdrant's engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::step::{Interruption, Outcome, code as step_code, run as run_step};

/// Its directory, relative to the root of the workspace.
pub(crate) const DIRECTORY: &str = "crates/qdrant-server";

/// The arguments of cargo in that directory. They set the target directory, so that [`program`] is right in any
/// environment.
pub(crate) const BUILD: &str = "build --target-dir target";

/// The environment variable with the path of the program, for tests.
pub(crate) const VARIABLE: &str = "CHUNK_SYNC_TEST_QDRANT_SERVER";

/// The path of the built program.
pub(crate) fn program(root: &Path) -> PathBuf {
    of_profile(root, "debug")
}

fn of_profile(root: &Path, profile: &str) -> PathBuf {
    root.join(DIRECTORY).join("target").join(profile).join("chunk-sync-qdrant-server")
}

/// Builds the program and prints its path.
pub(crate) fn build(root: &Path) -> Result<ExitCode> {
    let outcome = cargo(root, BUILD)?;
    if matches!(outcome, Outcome::Passed(_)) {
        println!("{}", program(root).display());
    }
    Ok(ExitCode::from(step_code(&[("build", outcome)])))
}

/// Builds the program for measurements: with an optimised engine, which takes longer to compile. Returns its path.
///
/// # Errors
/// It cannot be built.
pub(crate) fn build_optimised(root: &Path) -> Result<PathBuf> {
    let outcome = cargo(root, &format!("{BUILD} --release"))?;
    ensure!(matches!(outcome, Outcome::Passed(_)), "the test server for Qdrant cannot be built");
    Ok(of_profile(root, "release"))
}

fn cargo(root: &Path, arguments: &str) -> Result<Outcome> {
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    run_step(Path::new("cargo"), &arguments, &root.join(DIRECTORY), &[], &Interruption::catch()?)
}
