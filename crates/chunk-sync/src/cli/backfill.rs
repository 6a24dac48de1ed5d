//! `backfill`: publishes rows that were never synchronized, or changed since, to the bus; `run` writes them to the stores.

use chunk_sync_engine::backfill::{Backfilled, backfill};
use clap::Args;

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Purpose};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Maximum number of rows published per second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, Purpose::Beside, "backfill").await?;
    let total = wired.ports.records.counts().await?.chunks;
    let progress = Progress::new("backfill", total);
    let show = |done: Backfilled| progress.set(done.rows, Some(total.max(done.rows)));
    let done = backfill(&wired.ports, &wired.publisher, arguments.rate, &show).await;
    progress.finish();
    let done = done?;
    if json {
        output::json(&serde_json::json!({ "rows": done.rows, "published": done.published }))?;
    } else {
        let rows = output::count(done.rows, "row");
        output::line(format_args!(
            "{rows} read; {} new, changed or deleted: published for `run`",
            output::number(done.published)
        ))?;
    }
    Ok(Ended::Fine)
}
