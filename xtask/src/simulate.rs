//! The simulation, for longer than the tests give it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::step::{Interruption, code as step_code, run as run_step};

const ARGUMENTS: &str =
    "test --workspace --test simulation as_long_as_asked -- --exact --ignored --nocapture --test-threads=1";

/// Reads `--minutes N` and lives through new seeds for that long. The code is not zero when one of them breaks.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let ["--minutes", minutes] = words else { bail!("`simulate` takes `--minutes N`, not `{}`", words.join(" ")) };
    let minutes: u64 = minutes.parse().with_context(|| format!("`{minutes}` is no number of minutes"))?;
    let arguments: Vec<String> = ARGUMENTS.split(' ').map(str::to_owned).collect();
    let environment = [("CHUNK_SYNC_MINUTES", minutes.to_string())];
    let outcome = run_step(Path::new("cargo"), &arguments, root, &environment, &Interruption::catch()?)?;
    Ok(ExitCode::from(step_code(&[("simulation", outcome)])))
}
