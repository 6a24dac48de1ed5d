//! The bus: Redis, else a table beside the rows.

use std::sync::Arc;

use chunk_sync_connectors::postgres::PostgresRecords;
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Fault, FaultClass, Marked};

use super::rows::Rows;
use crate::config::{Redis, Roles};

/// The bus, open.
pub(super) struct OpenBus {
    pub(super) port: Arc<dyn Bus>,
    /// The server, where it is one that carries the mark of the installation.
    pub(super) marked: Option<Arc<dyn Marked>>,
    pub(super) redis: Option<Arc<RedisBus>>,
}

pub(super) fn open(roles: &Roles, rows: &Rows) -> Result<OpenBus, Fault> {
    if let Some(redis) = &roles.redis {
        let bus = Arc::new(RedisBus::new(&config(redis, roles.allow_insecure))?);
        let (port, marked) = (Arc::clone(&bus) as _, Arc::clone(&bus) as _);
        return Ok(OpenBus { port, marked: Some(marked), redis: Some(bus) });
    }
    match &rows.file {
        Some(file) => Ok(OpenBus { port: Arc::clone(&file.bus) as _, marked: None, redis: None }),
        None => beside_the_rows(rows.postgres.as_ref()),
    }
}

/// The bus as a table in PostgreSQL.
fn beside_the_rows(_records: Option<&Arc<PostgresRecords>>) -> Result<OpenBus, Fault> {
    // HERE: PostgresBus::new(records, max_backlog) is constructed.
    let message = "without Redis the bus is a table in PostgreSQL, which this program does not have yet: set redis.url";
    Err(Fault::new(FaultClass::Misconfigured, "bus", message))
}

pub(super) fn config(redis: &Redis, allow_insecure: bool) -> RedisConfig {
    RedisConfig {
        stream: redis.stream.clone(),
        dead_stream: redis.dead_stream.clone(),
        group: redis.group.clone(),
        allow_insecure,
        ..RedisConfig::new(redis.url.expose().into())
    }
}
