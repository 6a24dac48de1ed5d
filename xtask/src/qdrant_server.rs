//! The test server for Qdrant: a workspace of its own, because it compiles Qdrant's engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::test::{Interruption, Outcome, run_step, step_code};

/// Its directory below the workspace's.
pub(crate) const DIRECTORY: &str = "crates/qdrant-server";

/// The arguments of cargo, in that directory. The target directory is named, so that the program is where it is looked for.
pub(crate) const BUILD: &str = "build --target-dir target";

/// The variable by which tests find the program.
pub(crate) const VARIABLE: &str = "CHUNK_SYNC_TEST_QDRANT_SERVER";

/// Where the program is, once it is built.
pub(crate) fn program(root: &Path) -> PathBuf {
    root.join(DIRECTORY).join("target/debug/chunk-sync-qdrant-server")
}

/// Builds the program, and prints where it is.
pub(crate) fn build(root: &Path) -> Result<ExitCode> {
    let arguments: Vec<String> = BUILD.split(' ').map(str::to_owned).collect();
    let outcome = run_step(Path::new("cargo"), &arguments, &root.join(DIRECTORY), &[], &Interruption::catch()?)?;
    if matches!(outcome, Outcome::Passed(_)) {
        println!("{}", program(root).display());
    }
    Ok(ExitCode::from(step_code(&[("build", outcome)])))
}
