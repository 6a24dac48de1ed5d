//! The fuzz targets in `fuzz/`: builds them with coverage counters and runs them. libFuzzer needs only flags that the
//! workspace's own compiler has. The code has no `unsafe`, so no sanitizer is used.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::step::{Interruption, Outcome, announce, code as step_code, run as run_step, summary};

/// The targets, each a file in `fuzz/fuzz_targets`.
const TARGETS: [&str; 7] =
    ["pgoutput", "wal2json", "event", "log_reader", "configuration", "postgres_string", "store_url"];

/// The platform. It is named so that build scripts and macros are compiled without the flags.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What `cargo fuzz build --sanitizer none` passes to the compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Parses `--minutes N [TARGET]`, builds, and runs each target for N minutes. The exit code is not zero when one finds an
/// input that panics, takes more than 10 s or needs more than 1 GiB; the input is then in `fuzz/artifacts`.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let (minutes, targets) = match words {
        ["--minutes", minutes] => (minutes, TARGETS.to_vec()),
        ["--minutes", minutes, target] if TARGETS.contains(target) => (minutes, vec![*target]),
        _ => bail!("invalid arguments of `fuzz`: `{}`; use `--minutes N [{}]`", words.join(" "), TARGETS.join("|")),
    };
    let minutes: u64 = minutes.parse().with_context(|| format!("invalid number of minutes `{minutes}`"))?;
    let (fuzz, interruption) = (root.join("fuzz"), Interruption::catch()?);
    announce("build the targets");
    let build = ["build", "--release", "--locked", "--bins", "--target", PLATFORM].map(str::to_owned);
    let flags = [("RUSTFLAGS", FLAGS.to_owned())];
    let mut outcomes = vec![("build", run_step(Path::new("cargo"), &build, &fuzz, &flags, &interruption)?)];
    for target in targets {
        let outcome = if interruption.came() || step_code(&outcomes[..1]) != 0 {
            Outcome::NotRun
        } else {
            announce(target);
            let program = fuzz.join("target").join(PLATFORM).join("release").join(target);
            run_step(&program, &arguments(&fuzz, target, minutes)?, &fuzz, &[], &interruption)?
        };
        outcomes.push((target, outcome));
    }
    print!("\n{}", summary(&outcomes));
    Ok(ExitCode::from(step_code(&outcomes)))
}

/// New inputs go to `fuzz/found`; those of `fuzz/corpus` are only read.
fn arguments(fuzz: &Path, target: &str, minutes: u64) -> Result<Vec<String>> {
    let folder = |name: &str| fuzz.join(name).join(target);
    for name in ["found", "artifacts"] {
        std::fs::create_dir_all(folder(name)).with_context(|| format!("cannot create {}", folder(name).display()))?;
    }
    Ok(vec![
        format!("-max_total_time={}", minutes * 60),
        "-max_len=65536".to_owned(),
        "-timeout=10".to_owned(),
        "-rss_limit_mb=1024".to_owned(),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", folder("artifacts").display()),
        folder("found").display().to_string(),
        folder("corpus").display().to_string(),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_target_has_a_file_and_kept_inputs() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let names = |folder: &str| -> Vec<String> {
            let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        let mut targets = TARGETS.map(str::to_owned).to_vec();
        targets.sort();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus"), targets);
    }
}
