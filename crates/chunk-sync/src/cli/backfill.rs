//! `backfill`: rows that nobody has carried yet, PostgreSQL → the other stores, by way of the bus.

use chunk_sync_engine::backfill::backfill;

use super::progress::Progress;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

pub(super) async fn execute(config: &Config, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, "backfill").await?;
    let total = wired.ports.records.counts().await?.chunks;
    let progress = Progress::new("backfill", total);
    let done =
        backfill(&wired.ports, &wired.publisher, &|done| progress.set(done.rows, Some(total.max(done.rows)))).await;
    progress.finish();
    let done = done?;
    if json {
        output::json(&serde_json::json!({ "rows": done.rows, "published": done.published }))?;
    } else {
        let rows = output::count(done.rows, "row");
        output::line(format_args!(
            "{rows}, {} not carried before: on the bus for `run`",
            output::number(done.published)
        ))?;
    }
    Ok(Ended::Fine)
}
