//! The bus: Redis if its URL is set, else a table in the database of the rows.

use std::sync::Arc;

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::postgres::PostgresBus;
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Fault, Heartbeats, Marked};

use chunk_sync_model::Limits;

use super::rows::{Home, Rows};
use crate::config::{Redis, Roles};

/// The open bus.
pub(super) struct OpenBus {
    pub(super) port: Arc<dyn Bus>,
    /// The server that carries the mark of the installation; `None` if the bus is in the database of the rows.
    pub(super) marked: Option<Arc<dyn Marked>>,
    /// The server as a place that keeps the last value inserted into the database of the rows; `None` if the bus is in
    /// that database.
    pub(super) heartbeats: Option<Arc<dyn Heartbeats>>,
}

pub(super) fn open(roles: &Roles, rows: &Rows, limits: &Limits) -> Result<OpenBus, Fault> {
    if let Some(redis) = &roles.redis {
        let config = RedisConfig { entry_max_bytes: limits.event_max_bytes, ..config(redis, roles.allow_insecure) };
        let bus = Arc::new(RedisBus::new(&config)?);
        return Ok(OpenBus { port: Arc::clone(&bus) as _, marked: Some(Arc::clone(&bus) as _), heartbeats: Some(bus) });
    }
    let port: Arc<dyn Bus> = match &rows.home {
        Home::Postgres(records) => Arc::new(PostgresBus::new(Arc::clone(records), MAX_BACKLOG)),
        Home::File(file) => Arc::clone(&file.bus) as _,
    };
    Ok(OpenBus { port, marked: None, heartbeats: None })
}

pub(super) fn config(redis: &Redis, allow_insecure: bool) -> RedisConfig {
    RedisConfig {
        sentinels: redis.sentinels.clone(),
        sentinel_user: redis.sentinel_user.clone(),
        sentinel_password: redis.sentinel_password.clone(),
        stream: redis.stream.clone(),
        dead_stream: redis.dead_stream.clone(),
        group: redis.group.clone(),
        trim_past_idle: redis.trim_past_idle_groups,
        tls: redis.tls.clone(),
        allow_insecure,
        ..RedisConfig::new(redis.url.expose().into())
    }
}
