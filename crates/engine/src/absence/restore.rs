//! What puts the rows in doubt: the table is not the one on record, or the database was restored. The guard looks for it
//! with every heartbeat, and a repair before it overwrites anything: after a restore the stores may be right and the
//! records old, and until the next heartbeat no suspicion is recorded.

use std::time::Duration;

use tracing::warn;

use crate::ports::{Fault, Heartbeat, Ports, RecordedTable, Suspicion};

/// A value counts for this long: the database keeps it as long.
const COUNTS_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Looks for a restore, compares the table with the one on record, and records the suspicion that either raises.
pub(crate) async fn examine(ports: &Ports) -> Result<RecordedTable, Fault> {
    look_for_a_restore(ports).await?;
    let table = ports.records.check_table().await?;
    if let RecordedTable::Suspect(suspicion) = &table {
        suspect(ports, suspicion).await?;
    }
    Ok(table)
}

/// A value that another place noted and that the database lacks: the database was restored.
async fn look_for_a_restore(ports: &Ports) -> Result<(), Fault> {
    let at = ports.clock.now();
    for heartbeats in &ports.heartbeats {
        let noted = match heartbeats.noted().await {
            Ok(noted) => noted,
            Err(fault) => {
                warn!(%fault, place = heartbeats.place(), "cannot read the last value noted");
                continue;
            }
        };
        let counts = |noted: &Heartbeat| at.seconds_since(noted.at) < COUNTS_FOR.as_secs_f64();
        let Some(noted) = noted.filter(counts) else { continue };
        if !ports.records.has_heartbeat(noted.value).await? {
            let text = format!(
                "the database was restored: it lacks the value {} that was inserted at {} and noted in {}",
                noted.value,
                noted.at,
                heartbeats.place()
            );
            suspect(ports, &Suspicion { text }).await?;
        }
    }
    Ok(())
}

async fn suspect(ports: &Ports, suspicion: &Suspicion) -> Result<(), Fault> {
    if ports.records.suspicion().await?.is_some() {
        return Ok(());
    }
    warn!(
        reason = suspicion.text,
        "the table is in doubt: absent rows delete no chunk until `chunk-sync init --adopt`"
    );
    ports.records.suspect(suspicion, &ports.fence()).await
}
