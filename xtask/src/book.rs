//! The guides as a site, by mdBook: from the search path, else installed below `target/`. The build itself needs no network.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::services::find_program;

const VERSION: &str = "0.5.2";

/// Writes the site to `target/book`.
///
/// # Errors
/// mdBook cannot be installed, or refuses the pages.
pub(crate) fn build(root: &Path) -> Result<ExitCode> {
    let program = match find_program("mdbook") {
        Some(program) => program,
        None => install(root)?,
    };
    let built = Command::new(&program).arg("build").arg(root.join("docs")).status();
    ensure!(built.with_context(|| format!("cannot run {}", program.display()))?.success(), "mdBook failed");
    println!("wrote target/book/index.html");
    Ok(ExitCode::SUCCESS)
}

fn install(root: &Path) -> Result<PathBuf> {
    let home = root.join("target/mdbook");
    let program = home.join("bin/mdbook");
    if !program.is_file() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "mdbook", "--locked", "--no-default-features", "--features", "search"]);
        // Not one of the workspace's directories of results: its profiles would rebuild it.
        cargo.args(["--version", VERSION, "--root"]).arg(&home).arg("--target-dir").arg(home.join("build"));
        ensure!(cargo.status().context("cannot run cargo")?.success(), "mdBook {VERSION} cannot be installed");
    }
    Ok(program)
}
