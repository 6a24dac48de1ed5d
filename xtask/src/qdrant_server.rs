//! The test server for Qdrant, a separate workspace because it compiles Qdrant's engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

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
    root.join(DIRECTORY).join("target/debug/chunk-sync-qdrant-server")
}

/// Builds the program and prints its path.
pub(crate) fn build(root: &Path) -> Result<ExitCode> {
    let arguments: Vec<String> = BUILD.split(' ').map(str::to_owned).collect();
    let outcome = run_step(Path::new("cargo"), &arguments, &root.join(DIRECTORY), &[], &Interruption::catch()?)?;
    if matches!(outcome, Outcome::Passed(_)) {
        println!("{}", program(root).display());
    }
    Ok(ExitCode::from(step_code(&[("build", outcome)])))
}
