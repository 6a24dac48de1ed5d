//! The status page in a real browser, on embedded stores and on the real servers.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::test::{self, Options};

/// Runs the browser tests; screenshots go to `.dev/shots`. The exit code is not zero when one fails.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let shots = root.join(".dev/shots");
    std::fs::create_dir_all(&shots).with_context(|| format!("cannot create {}", shots.display()))?;
    let tests = ["--test", "browser", "--test", "roles", "--", "--ignored", "--nocapture", "the_page"];
    test::run(root, &Options::of_live(&tests, vec![("CHUNK_SYNC_SHOTS", shots.display().to_string())]))
}
