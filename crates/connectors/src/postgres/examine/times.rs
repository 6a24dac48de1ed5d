//! Checks of the columns with times. A `timestamp` has no zone: the service reads and writes it as UTC, while the programs
//! that use it often mean the time of the place.

use chunk_sync_engine::ports::Findings;
use deadpool_postgres::Client;

use crate::postgres::config::PostgresConfig;
use crate::postgres::facts;
use crate::postgres::facts::Facts;
use crate::postgres::fault::Error;
use crate::postgres::sql::literal;

/// The zone of new sessions and its distance from UTC in minutes, now.
const ZONE: &str = "SELECT current_setting('TimeZone'), (extract(timezone FROM now()) / 60)::bigint";

pub(super) async fn examine(
    findings: &mut Findings,
    client: &Client,
    config: &PostgresConfig,
    facts: &Facts,
) -> Result<(), Error> {
    const TIMES: [&str; 4] = ["created_at", "updated_at", "indexed_at", "cognified_at"];
    let has_no_zone = |name: &&str| facts.columns.get(*name).is_some_and(|found| found.type_name == "timestamp");
    let columns: Vec<&str> = TIMES.into_iter().filter(has_no_zone).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let row = client.query_one(ZONE, &[]).await?;
    let (zone, minutes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let names = columns.join(", ");
    if minutes == 0 && matches!(zone.as_str(), "UTC" | "Etc/UTC" | "GMT") {
        findings.ok("times", format!("{names} without time zone: UTC"));
        return Ok(());
    }
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
    let altered =
        |name: &&str| format!("ALTER COLUMN {name} TYPE timestamptz USING {name} AT TIME ZONE {}", literal(&zone));
    findings.warning(
        "times",
        format!(
            "{names} have no time zone: the service reads and writes UTC, and sessions of this database have the zone {zone} \
             ({sign}{hours:02}:{rest:02} now)"
        ),
        format!(
            "if your programs write local time: ALTER TABLE {} {}",
            facts::table(config),
            columns.iter().map(altered).collect::<Vec<_>>().join(", ")
        ),
    );
    Ok(())
}
