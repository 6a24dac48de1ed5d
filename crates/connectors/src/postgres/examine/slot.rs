//! Examines the replication slot and the publication of capture.

use chunk_sync_engine::ports::Findings;
use deadpool_postgres::Client;
use tokio_postgres::Row;

use crate::postgres::capture::{CaptureConfig, Plugin};
use crate::postgres::config::PostgresConfig;
use crate::postgres::facts;
use crate::postgres::fault::Error;
use crate::postgres::found_slot::{FoundSlot, RENAME_SLOT, SLOT, SlotState, WalStatus};
use crate::postgres::publication::{Publication, Refusal, as_owner, examine_publication};
use crate::postgres::sql::quoted;

/// A slot that lags by more bytes gets a warning.
const FAR_BEHIND: i64 = 1 << 30;

/// Whether the role may publish table `$1`: it owns the table, and may create publications. No row without the table.
const MAY_PUBLISH: &str = "SELECT pg_has_role(relowner, 'USAGE')
        AND has_database_privilege(current_database(), 'CREATE')
    FROM pg_class WHERE oid = to_regclass($1)";

const SUBSCRIPTIONS: &str =
    "SELECT subname::text, subenabled FROM pg_subscription WHERE subslotname = $1 ORDER BY subname";

pub(super) async fn slot(findings: &mut Findings, client: &Client, capture: &CaptureConfig) -> Result<(), Error> {
    let slot = &capture.slot;
    for row in client.query(SUBSCRIPTIONS, &[slot]).await? {
        subscription(findings, slot, &row)?;
    }
    let row = client.query_opt(SLOT, &[slot]).await?;
    let Some(found) = row.as_ref().map(FoundSlot::of).transpose()?.flatten() else {
        findings.warning(
            "slot",
            format!("the slot {slot} does not exist yet"),
            "run `chunk-sync init`, then `backfill`",
        );
        if capture.plugin != Plugin::Pgoutput {
            // Only the creation of a slot loads the plugin.
            let text = format!("whether the server has {} is known once its slot is created", capture.plugin.as_str());
            findings.warning("plugin", text, "run `chunk-sync init`, or set postgres.plugin = \"pgoutput\"");
        }
        return Ok(());
    };
    let behind = found.behind;
    match (found.state(capture.plugin.as_str()), found.wal) {
        (SlotState::Foreign, _) => findings.failed("slot", found.owner(slot), RENAME_SLOT),
        (SlotState::Lost, _) => findings.failed(
            "slot",
            format!("the server has invalidated {slot}, and changes are lost"),
            "raise max_slot_wal_keep_size; `chunk-sync run` creates the slot again and syncs the missed changes",
        ),
        (_, WalStatus::Unreserved) => findings.failed(
            "slot",
            format!("{slot} is {behind} bytes behind; the server drops that log at the next checkpoint"),
            "start `chunk-sync run` now and raise max_slot_wal_keep_size",
        ),
        (state, _) if behind > FAR_BEHIND => {
            let reader = if state == SlotState::Active { "its reader is slow" } else { "it has no reader" };
            findings.warning(
                "slot",
                format!("{slot} is {behind} bytes behind, which the server keeps on disk: {reader}"),
                "let `chunk-sync run` catch up, or drop the slot if the service is decommissioned",
            );
        }
        (SlotState::Active, _) => findings.ok("slot", format!("{slot}, {behind} bytes behind, in use")),
        (SlotState::Free, _) => findings.ok("slot", format!("{slot}, {behind} bytes behind, not in use")),
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
        Ok(Publication { exists: false, statements, .. }) => {
            let text = format!("the publication {name} does not exist yet");
            let may_create = client.query_opt(MAY_PUBLISH, &[&facts::table(config)]).await?;
            match may_create.map(|row| row.try_get(0)).transpose()? {
                Some(false) => findings.failed("publication", text, as_owner(&statements.join("; "))),
                Some(true) | None => findings.warning("publication", text, "run `chunk-sync init`"),
            }
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
