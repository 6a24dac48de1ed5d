//! What keeps a server from being used: address, version, clock, rights, and constraints that are missing. Looks only; what
//! it tries is undone.

use chunk_sync_engine::ports::{Fault, FaultClass, Finding, Findings};
use chunk_sync_model::Time;
use neo4rs::query;

use super::config::Neo4jConfig;
use super::fault::Error;
use super::schema;
use super::server::Server;
use crate::remote;

const PLACE: &str = "neo4j";

const CLOCK: &str = "RETURN datetime.realtime().epochMillis AS millis";

/// Without a label, so that none is left behind in the list of labels.
const TRY: &str = "CREATE (n) DELETE n";

/// Looks at everything that the service needs of the server.
pub async fn examine(config: &Neo4jConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let looked = match Server::new(config) {
        Ok(server) => look(&mut findings, &server).await.map_err(|error| error.into_fault(PLACE)),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = looked {
        findings.fault("server", &fault);
    }
    findings.into_list()
}

async fn look(findings: &mut Findings, server: &Server) -> Result<(), Error> {
    findings.ok("server", format!("Neo4j {}", schema::version(server).await?));
    clock(findings, server).await?;
    let mut transaction = server.begin().await?;
    let tried = transaction.run(query(TRY)).await;
    transaction.rollback().await;
    match tried {
        Ok(()) => findings.ok("rights", "it takes writes"),
        Err(error) => {
            let fault = error.into_fault(PLACE);
            match fault.class {
                FaultClass::Unavailable | FaultClass::Timeout => findings.fault("rights", &fault),
                _ => {
                    findings.failed("rights", fault.message, "let the user write to the database, or name another one");
                }
            }
        }
    }
    let missing = schema::missing(server).await?;
    if missing.is_empty() {
        findings.ok("constraints", "there");
    } else {
        let ids: Vec<String> = missing.iter().map(|label| format!("{label}.id")).collect();
        findings.warning("constraints", format!("not unique yet: {}", ids.join(", ")), "run `chunk-sync init`");
    }
    Ok(())
}

async fn clock(findings: &mut Findings, server: &Server) -> Result<(), Error> {
    let mut transaction = server.begin().await?;
    let before = remote::now();
    let rows = transaction.rows(query(CLOCK)).await;
    let after = remote::now();
    transaction.rollback().await;
    if let Some(row) = rows?.first() {
        findings.clock(before, Time::from_micros(row.get::<i64>("millis")?.saturating_mul(1000)), after);
    }
    Ok(())
}

/// How a server off this machine would be spoken to, by the verdict of whoever checks that.
#[must_use]
pub fn link(strict: Result<(), Fault>, allowed: Result<(), Fault>) -> (Vec<Finding>, bool) {
    let mut findings = Findings::of(PLACE);
    let go_on = remote::examine(&mut findings, strict, allowed);
    (findings.into_list(), go_on)
}
