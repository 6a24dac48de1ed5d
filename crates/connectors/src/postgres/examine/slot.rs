//! Examines the replication slot and the publication of capture.

use chunk_sync_engine::ports::Findings;
use deadpool_postgres::Client;
use tokio_postgres::Row;

use crate::postgres::capture::CaptureConfig;
use crate::postgres::config::PostgresConfig;
use crate::postgres::facts;
use crate::postgres::fault::Error;
use crate::postgres::publication::{Publication, Refusal, examine_publication};
use crate::postgres::sql::quoted;

/// A slot that lags by more bytes gets a warning.
const FAR_BEHIND: i64 = 1 << 30;

/// The slot, by name.
pub(super) const SLOT: &str =
    "SELECT coalesce(database::text, ''), coalesce(plugin::text, ''), coalesce(wal_status, ''), active,
    database IS NOT DISTINCT FROM current_database(),
    coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        confirmed_flush_lsn), 0)::bigint
    FROM pg_replication_slots WHERE slot_name = $1";

const SUBSCRIPTIONS: &str =
    "SELECT subname::text, subenabled FROM pg_subscription WHERE subslotname = $1 ORDER BY subname";

pub(super) async fn slot(findings: &mut Findings, client: &Client, capture: &CaptureConfig) -> Result<(), Error> {
    let slot = &capture.slot;
    for row in client.query(SUBSCRIPTIONS, &[slot]).await? {
        subscription(findings, slot, &row)?;
    }
    let Some(row) = client.query_opt(SLOT, &[slot]).await? else {
        findings.warning(
            "slot",
            format!("the slot {slot} does not exist yet"),
            "run `chunk-sync init`, then `backfill`",
        );
        return Ok(());
    };
    let (database, plugin, status): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (active, ours, behind): (bool, bool, i64) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    if !ours || plugin != capture.plugin.as_str() {
        findings.failed(
            "slot",
            format!("{slot} belongs to database `{database}` and plugin `{plugin}`"),
            "set postgres.slot to another name",
        );
    } else if status == "lost" {
        findings.failed(
            "slot",
            format!("the server has invalidated {slot}, and changes are lost"),
            "raise max_slot_wal_keep_size; `chunk-sync run` creates the slot again and syncs the missed changes",
        );
    } else if status == "unreserved" {
        findings.failed(
            "slot",
            format!("{slot} is {behind} bytes behind; the server drops that log at the next checkpoint"),
            "start `chunk-sync run` now and raise max_slot_wal_keep_size",
        );
    } else if behind > FAR_BEHIND {
        let reader = if active { "its reader is slow" } else { "it has no reader" };
        findings.warning(
            "slot",
            format!("{slot} is {behind} bytes behind, which the server keeps on disk: {reader}"),
            "let `chunk-sync run` catch up, or drop the slot if the service is decommissioned",
        );
    } else {
        findings.ok("slot", format!("{slot}, {behind} bytes behind, {}", if active { "in use" } else { "not in use" }));
    }
    Ok(())
}

fn subscription(findings: &mut Findings, slot: &str, row: &Row) -> Result<(), Error> {
    let name = quoted(row.try_get(0)?);
    let text = format!("the subscription {name} uses the slot {slot} and takes its changes away from the service");
    let remedy = format!(
        "ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name}"
    );
    match row.try_get(1)? {
        true => findings.failed("subscription", text, remedy),
        false => findings.warning("subscription", format!("{text} once it is enabled"), remedy),
    }
    Ok(())
}

pub(super) async fn publication(
    findings: &mut Findings,
    client: &Client,
    config: &PostgresConfig,
    capture: &CaptureConfig,
) -> Result<(), Error> {
    let name = &capture.publication;
    match examine_publication(client, config, name, capture.publish).await {
        Ok(Publication { exists: false, .. }) => {
            let text = format!("the publication {name} does not exist yet");
            findings.warning("publication", text, "run `chunk-sync init`");
        }
        Ok(Publication { statements, .. }) if statements.is_empty() => {
            findings.ok("publication", format!("{name} publishes {}", facts::table(config)));
        }
        Ok(Publication { statements, hides, .. }) => {
            let text = hides.unwrap_or("the publication does not fit the table and its replica identity");
            findings.failed("publication", format!("{name}: {text}"), statements.join("; "));
        }
        Err(Refusal::Shape { text, remedy }) => findings.failed("publication", text, remedy),
        Err(Refusal::Query(error)) => return Err(error),
    }
    Ok(())
}
