//! `wal`: the write-ahead log. `status` and `check` only look, also while a service writes; `replay` does what a start does.

mod look;
mod replay;
#[cfg(test)]
mod tests;

use std::path::Path;

use chunk_sync_wal::holder;
use clap::Subcommand;

use super::{Ended, Failure};
use crate::config::Config;

pub(super) use look::{free, size};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Exit codes: 0 fine; 1 the log is damaged; 2 wrong usage or configuration; 3 a service has the log, or a store cannot be reached.")]
pub(super) enum Action {
    /// Where the log is, how large, and what is pending in it.
    Status,
    /// Read every line: what is damaged or torn, with file and line.
    Check,
    /// Carry what is pending into the stores, as every start does, and end.
    Replay {
        /// List what is pending; do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn execute(config: Config, action: Action, json: bool) -> Result<Ended, Failure> {
    match action {
        Action::Status => look::status(&config, json).await,
        Action::Check => look::check(&config, json).await,
        Action::Replay { dry_run: true } => replay::list(&config, json).await,
        Action::Replay { dry_run: false } => replay::execute(config, json).await,
    }
}

/// Who has the log, in words.
fn held_by(dir: &Path) -> Result<Option<String>, Failure> {
    let holder = holder(dir).map_err(anyhow::Error::from)?;
    Ok(holder.map(|process| process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))))
}
