//! The real servers.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::postgres::{CaptureConfig, PostgresCapture, PostgresConfig, PostgresLease, PostgresRecords};
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Fault, FaultClass, Finding};
use chunk_sync_engine::{Ports, Publisher};
use chunk_sync_model::Limits;
use tracing::warn;

use super::{Wired, in_time};
use crate::config::{Address, Neo4j, Postgres, Qdrant, Redis, Servers};

pub(super) async fn open(servers: &Servers, limits: &Arc<Limits>) -> Result<Wired, Fault> {
    let insecure = servers.allow_insecure;
    if insecure {
        warn!("allow_insecure is set: servers on other machines are spoken to without TLS or password");
    }
    let bus = Arc::new(RedisBus::new(&redis(&servers.redis, insecure))?);
    let vectors = QdrantStore::new(&qdrant(&servers.qdrant, limits, insecure))?;
    let graph = Neo4jStore::new(&neo4j(&servers.neo4j, insecure)?)?;
    let records = Arc::new(PostgresRecords::connect(postgres(&servers.postgres, limits, insecure)).await?);
    let capture = PostgresCapture::new(Arc::clone(&records), capture(&servers.postgres));
    let publisher = Publisher::new(Arc::clone(&bus) as _, Arc::clone(limits));
    let stores: Vec<Arc<dyn chunk_sync_engine::ports::Store>> = vec![Arc::new(vectors), Arc::new(graph)];
    let lease = Arc::new(PostgresLease::new(Arc::clone(&records), &servers.postgres.slot)?);
    let ports = Ports { bus: Arc::clone(&bus) as _, records, lease, stores };
    Ok(Wired { mode: "servers", ports, publisher, capture: Some(Arc::new(capture)) })
}

pub(super) async fn statements(servers: &Servers, limits: &Arc<Limits>) -> Result<Vec<(&'static str, String)>, Fault> {
    let insecure = servers.allow_insecure;
    let records = Arc::new(PostgresRecords::connect(postgres(&servers.postgres, limits, insecure)).await?);
    let capture = PostgresCapture::new(Arc::clone(&records), capture(&servers.postgres));
    let postgres = records.statements().await?.into_iter().chain(capture.statements().await?);
    let qdrant = chunk_sync_connectors::qdrant::statements(&servers.qdrant.collection, limits);
    let redis = format!("XGROUP CREATE {} {} 0 MKSTREAM", servers.redis.stream, servers.redis.group);
    Ok(postgres
        .map(|statement| ("postgres", statement))
        .chain(qdrant.into_iter().map(|statement| ("qdrant", statement)))
        .chain(chunk_sync_connectors::neo4j::statements().iter().map(|statement| ("neo4j", (*statement).to_owned())))
        .chain([("redis", redis)])
        .collect())
}

/// Looks at all four at once, with less patience than the service has.
pub(super) async fn examine(servers: &Servers, limits: &Arc<Limits>) -> Vec<Finding> {
    let insecure = servers.allow_insecure;
    let (connect_timeout, timeout) = (Duration::from_secs(3), Duration::from_secs(4));
    let rows = PostgresConfig {
        connect_timeout,
        statement_timeout: timeout,
        lock_timeout: timeout,
        ..postgres(&servers.postgres, limits, insecure)
    };
    let log = capture(&servers.postgres);
    let bus = RedisConfig { answer_within: timeout, ..redis(&servers.redis, insecure) };
    let vectors = QdrantConfig { timeout, connect_timeout, ..qdrant(&servers.qdrant, limits, insecure) };
    let examined = tokio::join!(
        in_time("postgres", chunk_sync_connectors::postgres::examine(&rows, &log)),
        in_time("redis", chunk_sync_connectors::redis::examine(&bus)),
        in_time("qdrant", chunk_sync_connectors::qdrant::examine(&vectors)),
        in_time("neo4j", graph(&servers.neo4j, insecure, timeout)),
    );
    <[_; 4]>::from(examined).concat()
}

async fn graph(server: &Neo4j, insecure: bool, timeout: Duration) -> Vec<Finding> {
    use chunk_sync_connectors::neo4j::{examine, link};

    let (mut found, go_on) = link(neo4j(server, false).map(drop), neo4j(server, insecure).map(drop));
    if let (true, Ok(config)) = (go_on, neo4j(server, insecure)) {
        found.extend(examine(&Neo4jConfig { timeout, ..config }).await);
    }
    found
}

fn postgres(postgres: &Postgres, limits: &Arc<Limits>, allow_insecure: bool) -> PostgresConfig {
    PostgresConfig {
        schema: postgres.schema.clone(),
        table: postgres.table.clone(),
        allow_insecure,
        ..PostgresConfig::new(postgres.url.expose().into(), Arc::clone(limits))
    }
}

fn capture(postgres: &Postgres) -> CaptureConfig {
    CaptureConfig {
        url: postgres.replication_url.expose().into(),
        publication: postgres.publication.clone(),
        slot: postgres.slot.clone(),
        plugin: postgres.plugin,
    }
}

fn redis(redis: &Redis, allow_insecure: bool) -> RedisConfig {
    RedisConfig {
        stream: redis.stream.clone(),
        dead_stream: redis.dead_stream.clone(),
        group: redis.group.clone(),
        allow_insecure,
        ..RedisConfig::new(redis.url.expose().into())
    }
}

fn qdrant(qdrant: &Qdrant, limits: &Arc<Limits>, allow_insecure: bool) -> QdrantConfig {
    QdrantConfig {
        api_key: qdrant.api_key.clone(),
        collection: qdrant.collection.clone(),
        allow_insecure,
        ..QdrantConfig::new(qdrant.url.expose(), Arc::clone(limits))
    }
}

fn neo4j(neo4j: &Neo4j, allow_insecure: bool) -> Result<Neo4jConfig, Fault> {
    if !(allow_insecure || neo4j.url.expose().contains("+s://") || is_loopback(&neo4j.url)) {
        let message = format!("{} is another machine: write bolt+s or neo4j+s, or set allow_insecure", neo4j.url);
        return Err(Fault::new(FaultClass::Misconfigured, "neo4j", message));
    }
    Ok(Neo4jConfig {
        url: neo4j.url.expose().to_owned(),
        user: neo4j.user.clone(),
        password: neo4j.password.clone().unwrap_or_default(),
        database: neo4j.database.clone(),
        timeout: Neo4jConfig::TIMEOUT,
    })
}

fn is_loopback(address: &Address) -> bool {
    let host = address.host();
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
