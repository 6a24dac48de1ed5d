//! Runs the suite of every bus on Redis.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_connectors::MaxBacklog;
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, EntryId, Handover};
use chunk_sync_model::event::Fields;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::bus::BusFixture;

use super::surroundings::{bus, config, foreign_client, reader, shared_url};

struct Streams {
    config: RedisConfig,
    bus: Arc<RedisBus>,
}

impl Streams {
    async fn with(config: RedisConfig) -> Self {
        let bus = bus(&config).await;
        Self { config, bus }
    }
}

#[async_trait]
impl Fixture for Streams {
    type Port = dyn Bus;

    async fn fresh() -> Self {
        let streams = Self::with(config(&shared_url())).await;
        streams.bus.begin(Handover::Orderly).await.unwrap();
        streams
    }

    fn port(&self) -> Arc<dyn Bus> {
        Arc::clone(&self.bus) as _
    }

    async fn reopen(&mut self) {
        self.bus = reader(&self.config, Handover::Silent).await;
    }
}

#[async_trait]
impl BusFixture for Streams {
    async fn narrow(bound: u64) -> Self {
        Self::with(RedisConfig { max_backlog: MaxBacklog::of_entries(bound), ..config(&shared_url()) }).await
    }

    async fn add(&self, fields: Fields) -> EntryId {
        let mut command = redis::cmd("XADD");
        command.arg(&self.config.stream).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        let id: String = command.query_async(&mut foreign_client(&shared_url()).await).await.unwrap();
        id.parse().unwrap()
    }
}

chunk_sync_testkit::bus_suite!(Streams);
