//! The status page in a real browser.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::step::{Interruption, code as step_code, run as run_step};

const ARGUMENTS: &str = "test --package chunk-sync --test browser -- --ignored --nocapture";

/// Runs the browser test. The exit code is not zero when it fails.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let shots = root.join(".dev/shots");
    std::fs::create_dir_all(&shots).with_context(|| format!("cannot create {}", shots.display()))?;
    let arguments: Vec<String> = ARGUMENTS.split(' ').map(str::to_owned).collect();
    let environment = [("CHUNK_SYNC_SHOTS", shots.display().to_string())];
    let outcome = run_step(Path::new("cargo"), &arguments, root, &environment, &Interruption::catch()?)?;
    Ok(ExitCode::from(step_code(&[("browser", outcome)])))
}
