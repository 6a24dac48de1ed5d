//! Checks of what capture needs: the log level, a free slot, and a replication connection, which is tried.

use chunk_sync_engine::ports::Findings;
use deadpool_postgres::Client;

use super::PLACE;
use crate::postgres::capture::CaptureConfig;
use crate::postgres::config::PostgresConfig;
use crate::postgres::fault::Error;
use crate::postgres::found_slot::SLOT;
use crate::postgres::link::Link;
use crate::postgres::provider::Provider;
use crate::postgres::replication::{NO_SLOT, Refusal, Replication, connect};

/// The requirements of capture: log level, free slots, the system of the server, and the provider.
fn asked() -> String {
    format!(
        "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::bigint - \
             (SELECT count(*) FROM pg_replication_slots), \
             (SELECT system_identifier::text FROM pg_control_system()), ({})",
        Provider::ASK
    )
}

pub(super) async fn examine(
    findings: &mut Findings,
    client: &Client,
    config: &PostgresConfig,
    capture: &CaptureConfig,
) -> Result<(), Error> {
    let link = match Link::of(&capture.link(config)) {
        Ok(link) => link,
        Err(fault) => {
            findings.fault("replication_url", &fault);
            return Ok(());
        }
    };
    let row = client.query_one(&asked(), &[]).await?;
    let provider = Provider::of(row.try_get(3)?, &link);
    match row.try_get::<_, String>(0)?.as_str() {
        "logical" => findings.ok("wal_level", "logical"),
        level => findings.failed(
            "wal_level",
            format!("{level}: changes by other programs cannot be captured"),
            provider.wal_level(),
        ),
    }
    connection(findings, connect(&link, provider).await, row.try_get(2)?).await;
    let is_there = client.query_opt(SLOT, &[&capture.slot]).await?.is_some();
    if row.try_get::<_, i64>(1)? < 1 && !is_there {
        findings.failed("slots", "none is free", NO_SLOT);
    }
    Ok(())
}

/// Reports how the replication connection was opened. `system` is the identifier of the server with the rows.
async fn connection(findings: &mut Findings, tried: Result<Replication, Refusal>, system: &str) {
    match tried {
        Ok(Replication { wire, system: reached }) => {
            wire.close().await;
            if reached == system {
                findings.ok("replication", "a replication connection opens");
            } else {
                findings.failed(
                    "replication_url",
                    format!("it leads to another server (system {reached}) than postgres.url (system {system})"),
                    "correct one of them",
                );
            }
        }
        Err(refusal) => {
            let subject = if refusal.is_right() { "replication right" } else { "replication" };
            match refusal {
                Refusal { text, remedy: Some(remedy), .. } => findings.failed(subject, text, remedy),
                refusal => findings.fault(subject, &refusal.into_fault(PLACE)),
            }
        }
    }
}
