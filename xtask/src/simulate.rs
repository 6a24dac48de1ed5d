//! The simulation, run for longer than in the tests.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::step::{Interruption, code as step_code, run as run_step};

const ARGUMENTS: &str =
    "test --workspace --test simulation as_long_as_asked -- --exact --ignored --nocapture --test-threads=1";

/// Parses `--minutes N` and simulates new seeds for that long. The exit code is not zero when a seed fails.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let ["--minutes", minutes] = words else {
        bail!("invalid arguments of `simulate`: `{}`; use `--minutes N`", words.join(" "))
    };
    let minutes: u64 = minutes.parse().with_context(|| format!("invalid number of minutes `{minutes}`"))?;
    let arguments: Vec<String> = ARGUMENTS.split(' ').map(str::to_owned).collect();
    let environment = [("CHUNK_SYNC_MINUTES", minutes.to_string())];
    let outcome = run_step(Path::new("cargo"), &arguments, root, &environment, &Interruption::catch()?)?;
    Ok(ExitCode::from(step_code(&[("simulation", outcome)])))
}
