//! The checks of `doctor` and the statements of `init --dry-run`, per role. Read-only.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::postgres::{PostgresCapture, PostgresConfig, PostgresRecords};
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_connectors::{embedded, postgres, redis};
use chunk_sync_engine::ports::{Fault, FaultClass, Finding, Findings};
use chunk_sync_model::Limits;
use tokio::time::timeout;

use super::{Access, Opened, Purpose, blocking, bus, installation, rows, stores};
use crate::config::{Config, Neo4j, Postgres, Qdrant, Redis, Roles};

/// Time limit for the checks of one role.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time limits for one request and one connection; shorter than those of the service.
const ANSWER: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_secs(3);

/// Checks every configured role; the findings are grouped by role.
pub(crate) async fn examine(config: &Config) -> Vec<Finding> {
    let (roles, limits) = (&config.roles, &Arc::new(config.settings.limits.clone()));
    let insecure = roles.allow_insecure;
    let found = tokio::join!(
        role("postgres", roles.postgres.as_ref().map(|server| of_postgres(server, limits, insecure))),
        role("embedded", roles.has_file().then(|| of_file(roles))),
        role("redis", roles.redis.as_ref().map(|server| of_redis(server, insecure))),
        role("qdrant", roles.qdrant.as_ref().map(|server| of_qdrant(server, limits, insecure))),
        role("neo4j", roles.neo4j.as_ref().map(|server| of_neo4j(server, insecure))),
        role("installation", Some(of_installation(config))),
    );
    <[_; 6]>::from(found).concat()
}

/// The findings of a configured role, or a timeout after [`PATIENCE`]. Boxes the future: those of the clients are large.
async fn role(place: &'static str, examination: Option<impl Future<Output = Vec<Finding>>>) -> Vec<Finding> {
    let Some(examination) = examination else {
        return Vec::new();
    };
    timeout(PATIENCE, Box::pin(examination)).await.unwrap_or_else(|_| {
        let mut findings = Findings::of(place);
        let message = format!("no complete answer within {} s", PATIENCE.as_secs());
        findings.fault("server", &Fault::new(FaultClass::Timeout, place, message));
        findings.into_list()
    })
}

async fn of_postgres(server: &Postgres, limits: &Arc<Limits>, insecure: bool) -> Vec<Finding> {
    let config = PostgresConfig {
        connect_timeout: CONNECT,
        statement_timeout: ANSWER,
        lock_timeout: ANSWER,
        ..rows::config(server, limits, insecure)
    };
    postgres::examine(&config, &rows::capture(server)).await
}

async fn of_file(roles: &Roles) -> Vec<Finding> {
    let dir = roles.dir.clone();
    blocking(move || embedded::examine(&dir)).await
}

async fn of_redis(server: &Redis, insecure: bool) -> Vec<Finding> {
    redis::examine(&RedisConfig { answer_within: ANSWER, ..bus::config(server, insecure) }).await
}

async fn of_qdrant(server: &Qdrant, limits: &Arc<Limits>, insecure: bool) -> Vec<Finding> {
    let config = stores::qdrant(server, limits, insecure);
    let config = QdrantConfig { timeout: ANSWER, connect_timeout: CONNECT, ..config };
    chunk_sync_connectors::qdrant::examine(&config).await
}

async fn of_neo4j(server: &Neo4j, insecure: bool) -> Vec<Finding> {
    let config = Neo4jConfig { timeout: ANSWER, ..stores::neo4j(server, insecure) };
    chunk_sync_connectors::neo4j::examine(&config).await
}

/// Checks that the roles are one installation. A role that does not answer reports that in its own findings.
async fn of_installation(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::of("installation");
    let Ok(opened) = Opened::of(config, Access::Existing, "doctor").await else {
        return findings.into_list();
    };
    let recorded = opened.rows.installation.installed().await;
    match recorded {
        Ok(None) if config.roles.is_embedded() => {
            findings.ok("set", "not recorded yet; the next `run` or `publish` records it");
        }
        Ok(None) => match installation::check_marks(&opened, None, Purpose::Beside).await {
            Ok(()) => findings.warning("set", "not recorded yet", "run `chunk-sync init`"),
            Err(fault) => findings.fault("id", &fault),
        },
        Ok(Some(_)) => match installation::check(&opened, &config.roles, Purpose::Beside).await {
            Ok(installed) => {
                findings.ok("set", format!("{}, version {}", installed.stores, installed.version));
                findings.ok("id", installed.id.to_string());
                for target in &installed.filling {
                    let text = format!("{target} is new and not filled yet");
                    findings.warning("filling", text, "`chunk-sync run` fills it; `status` shows the progress");
                }
            }
            Err(fault) => findings.fault("set", &fault),
        },
        // The findings of the system of record report the fault.
        Err(_) => {}
    }
    findings.into_list()
}

/// The statements that an administrator runs to give the user of the service the rights that it needs, and no others, per
/// role.
pub(crate) async fn rights(config: &Config) -> Result<Vec<(&'static str, String)>, Fault> {
    let (roles, limits) = (&config.roles, Arc::new(config.settings.limits.clone()));
    let mut of_rows = Vec::new();
    if let Some(server) = &roles.postgres {
        let records = PostgresRecords::connect(rows::config(server, &limits, roles.allow_insecure)).await?;
        let log = PostgresCapture::new(Arc::new(records), rows::capture(server));
        of_rows = log.rights().await?.into_iter().map(|statement| ("postgres", statement)).collect();
    }
    let redis = roles.redis.as_ref().map(|server| ("redis", redis::rights(&server.stream, &server.dead_stream)));
    let qdrant =
        roles.qdrant.as_ref().map(|server| ("qdrant", chunk_sync_connectors::qdrant::rights(&server.collection)));
    let neo4j = roles.neo4j.as_ref().map(|server| ("neo4j", chunk_sync_connectors::neo4j::rights(&server.database)));
    Ok(of_rows.into_iter().chain(redis).chain(qdrant).chain(neo4j).collect())
}

/// The statements that `init` would run now, each with its role. Creates nothing.
pub(crate) async fn statements(config: &Config) -> Result<Vec<(&'static str, String)>, Fault> {
    let (roles, limits) = (&config.roles, Arc::new(config.settings.limits.clone()));
    let mut statements: Vec<(&'static str, String)> = Vec::new();
    let mut add = |place: &'static str, new: Vec<String>| {
        statements.extend(new.into_iter().map(|statement| (place, statement)));
    };
    if let Some(server) = &roles.postgres {
        let records = Arc::new(PostgresRecords::connect(rows::config(server, &limits, roles.allow_insecure)).await?);
        let log = PostgresCapture::new(Arc::clone(&records), rows::capture(server));
        add("postgres", records.statements().await?);
        add("postgres", log.statements().await?);
    }
    if let Some(server) = &roles.qdrant {
        add("qdrant", QdrantStore::new(&stores::qdrant(server, &limits, roles.allow_insecure))?.statements().await?);
    }
    if let Some(server) = &roles.neo4j {
        let missing = Neo4jStore::new(&stores::neo4j(server, roles.allow_insecure))?.statements().await?;
        add("neo4j", missing.into_iter().map(str::to_owned).collect());
    }
    if let Some(server) = &roles.redis {
        add("redis", RedisBus::new(&bus::config(server, roles.allow_insecure))?.statements().await?);
    }
    Ok(statements)
}
