//! The picture of the demonstration in the README: runs `chunk-sync demo` with colours and draws its output as an SVG.

mod ansi;
mod svg;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

/// The picture.
const FILE: &str = "docs/demo.svg";

/// Runs the demonstration and writes the picture; `words` are the arguments of the task.
///
/// # Errors
/// The program cannot be built or run, the demonstration fails, or its output has a colour that the picture lacks.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let program = match words {
        [] => build(root)?,
        ["--program", program] => PathBuf::from(program),
        _ => bail!("expected `--program FILE`, found `{}`", words.join(" ")),
    };
    let mut demo = Command::new(&program);
    demo.arg("demo").env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
    let output = demo.output().with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "the demo failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("the demo printed bytes that are not UTF-8")?;
    let lines = ansi::lines(&format!("$ chunk-sync demo\n{text}"))?;
    let file = root.join(FILE);
    std::fs::write(&file, svg::draw(&lines)).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {FILE}: {} lines", lines.len());
    Ok(ExitCode::SUCCESS)
}

fn build(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["build", "--release", "--package", "chunk-sync", "--bin", "chunk-sync"]);
    ensure!(cargo.status().context("cannot run cargo")?.success(), "the build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/chunk-sync"))
}
