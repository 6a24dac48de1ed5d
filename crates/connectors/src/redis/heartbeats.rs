//! The last random value that was inserted into the database of the rows, in a key next to the stream.

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, Heartbeat, Heartbeats};

use super::RedisBus;

const CONTEXT: &str = "redis: last beat";

impl RedisBus {
    fn beat_key(&self) -> String {
        format!("{}:beat", self.shared.keys.stream)
    }
}

#[async_trait]
impl Heartbeats for RedisBus {
    fn place(&self) -> String {
        format!("the key {} in Redis", self.beat_key())
    }

    async fn noted(&self) -> Result<Option<Heartbeat>, Fault> {
        let asked = self.shared.connection.query::<Option<String>>(redis::cmd("GET").arg(self.beat_key())).await;
        let found = asked.map_err(|error| error.into_fault(CONTEXT))?;
        Ok(found.and_then(|text| Heartbeat::from_recorded(&text)))
    }

    async fn note(&self, beat: Heartbeat) -> Result<(), Fault> {
        let mut set = redis::cmd("SET");
        set.arg(self.beat_key()).arg(beat.recorded());
        let set = self.shared.connection.query::<redis::Value>(&set).await;
        set.map(drop).map_err(|error| error.into_fault(CONTEXT))
    }
}
