//! Checks a server for `doctor`: address, version, clock, rights, missing constraints. Changes nothing: the trial write
//! is rolled back.

use chunk_sync_engine::ports::{FaultClass, Finding, Findings};
use chunk_sync_model::Time;

use super::bolt::Statement;
use super::config::Neo4jConfig;
use super::fault::Error;
use super::obstacle::{self, Obstacle};
use super::schema;
use super::server::Server;
use crate::remote;

const PLACE: &str = "neo4j";

const CLOCK: &str = "RETURN datetime.realtime().epochMillis AS millis";

/// Without a label, because the server would keep the label in its list after the rollback.
const TRIAL_WRITE: &str = "CREATE (n) DELETE n";

/// Checks everything that the service requires of the server. Returns findings in the order `link`, `server`, `clock`,
/// `rights`, `constraints`. A fault that prevents further checks becomes a finding and ends the list.
pub async fn examine(config: &Neo4jConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let strict = Neo4jConfig { allow_insecure: false, ..config.clone() };
    if !remote::examine(&mut findings, strict.address().map(drop), config.address().map(drop)) {
        return findings.into_list();
    }
    let examined = match Server::new(config) {
        Ok(server) => examine_server(&mut findings, &server).await.map_err(|error| error.into_fault(PLACE)),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = examined {
        findings.fault("server", &fault);
    }
    findings.into_list()
}

async fn examine_server(findings: &mut Findings, server: &Server) -> Result<(), Error> {
    findings.ok("server", format!("Neo4j {}", schema::version(server).await?));
    clock(findings, server).await?;
    let mut transaction = server.begin().await?;
    let tried = transaction.run(&Statement::new(TRIAL_WRITE)).await;
    transaction.rollback().await;
    match tried {
        Ok(()) => findings.ok("rights", "the user can write to the database"),
        Err(error) => {
            let fault = error.into_fault(PLACE);
            match fault.class {
                FaultClass::Unavailable | FaultClass::Timeout => findings.fault("rights", &fault),
                _ => {
                    let remedy = "grant the user write access to the database, or configure another user or database";
                    findings.failed("rights", fault.message, remedy);
                }
            }
        }
    }
    let missing = schema::missing(server).await?;
    if missing.is_empty() {
        findings.ok("constraints", "all present");
    } else if let Some(Obstacle { text, remedy }) = obstacle::first(server, &missing).await? {
        findings.failed("constraints", text, remedy);
    } else {
        let ids: Vec<String> = missing.iter().map(|label| format!("{label}.id")).collect();
        findings.warning("constraints", format!("no unique constraint on {}", ids.join(", ")), "run `chunk-sync init`");
    }
    Ok(())
}

async fn clock(findings: &mut Findings, server: &Server) -> Result<(), Error> {
    let mut transaction = server.begin().await?;
    let before = remote::now();
    let rows = transaction.rows(&Statement::new(CLOCK)).await;
    let after = remote::now();
    transaction.rollback().await;
    if let Some(row) = rows?.first() {
        findings.clock(
            before,
            Time::from_micros(row.integer("millis").ok_or(Error::Answer("millis"))?.saturating_mul(1000)),
            after,
        );
    }
    Ok(())
}
