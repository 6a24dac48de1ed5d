//! `wal`: the write-ahead log. `status` and `check` are read-only and work while a service writes; `replay` replays the
//! pending operations as the start of the service does.

mod inspect;
mod replay;
#[cfg(test)]
mod tests;

use std::path::Path;

use chunk_sync_wal::holder;
use clap::Subcommand;

use super::{Ended, Failure};
use crate::config::Config;

pub(super) use inspect::{free, size};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Exit codes: 0 success; 1 the log is damaged; 2 wrong usage or configuration; 3 a service is using the log, or a store \
cannot be reached.")]
pub(super) enum Action {
    /// Show the directory, the size and the pending operations of the log.
    Status,
    /// Read every line and report damaged and torn ones with file and line.
    Check,
    /// Apply the pending operations to the stores, as every start of the service does, and exit.
    Replay {
        /// List the pending operations, without applying them.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn execute(config: Config, action: Action, json: bool) -> Result<Ended, Failure> {
    match action {
        Action::Status => inspect::status(&config, json).await,
        Action::Check => inspect::check(&config, json).await,
        Action::Replay { dry_run: true } => replay::list(&config, json).await,
        Action::Replay { dry_run: false } => replay::execute(config, json).await,
    }
}

/// A description of the process that has the log open; `None` if there is none.
///
/// # Errors
/// [`Failure::Unable`] if the lock file cannot be read.
fn held_by(dir: &Path) -> Result<Option<String>, Failure> {
    let holder = holder(dir).map_err(anyhow::Error::from)?;
    Ok(holder.map(|process| process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))))
}
