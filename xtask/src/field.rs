//! The field suite: troubles of ordinary installations under load, on the real servers.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::test::{self, Options};

const ARGUMENTS: [&str; 6] = ["--test", "servers", "field::", "--", "--ignored", "--nocapture"];

/// Parses `--minutes N [--seeds A,B]` and runs the suite that long for each seed. The exit code is not zero when one fails.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let (minutes, seeds) = match words {
        ["--minutes", minutes] => (minutes, "1"),
        ["--minutes", minutes, "--seeds", seeds] => (minutes, *seeds),
        _ => bail!("invalid arguments of `field`: `{}`; use `--minutes N [--seeds A,B]`", words.join(" ")),
    };
    let minutes: u64 = minutes.parse().with_context(|| format!("invalid number of minutes `{minutes}`"))?;
    for seed in seeds.split(',') {
        seed.parse::<u64>().with_context(|| format!("invalid seed `{seed}`"))?;
    }
    let variables =
        vec![("CHUNK_SYNC_FIELD_SECONDS", (60 * minutes).to_string()), ("CHUNK_SYNC_FIELD_SEEDS", seeds.to_owned())];
    test::run(root, &Options::of_live(&ARGUMENTS, variables))
}
