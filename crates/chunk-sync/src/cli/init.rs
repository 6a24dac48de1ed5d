//! `init`: creates whatever the service needs and is not there yet.

use clap::Args;

use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print what would be run, and run nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let statements = wiring::statements(config).await?;
    if !arguments.dry_run {
        let wired = wiring::open(config, "init").await?;
        wired.ports.prepare().await?;
        if let Some(capture) = &wired.capture {
            capture.prepare().await?;
        }
    }
    if json {
        output::json(&serde_json::json!({ "dry_run": arguments.dry_run, "statements": statements }))?;
        return Ok(Ended::Fine);
    }
    if arguments.dry_run {
        for (store, statement) in &statements {
            output::line(format_args!("-- {store}\n{statement};"))?;
        }
    } else {
        output::line("everything that the service needs is there")?;
    }
    Ok(Ended::Fine)
}
