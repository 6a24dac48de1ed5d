//! The stream of events and the stream of dead letters, as any Redis client sees them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Environment, LIMIT};

impl Environment {
    /// Waits until the stream has neither unread nor pending entries.
    pub(crate) async fn settled(&self) {
        self.visible("an empty stream", || self.is_carried()).await;
    }

    /// Whether the stream has neither unread nor pending entries.
    pub(crate) async fn is_carried(&self) -> bool {
        let (stream, groups) = (self.info("STREAM").await, self.info("GROUPS").await);
        let last: String = redis::from_redis_value(stream[0]["last-generated-id"].clone()).unwrap();
        let read: String = redis::from_redis_value(groups[0]["last-delivered-id"].clone()).unwrap();
        let pending: u64 = redis::from_redis_value(groups[0]["pending"].clone()).unwrap();
        last == read && pending == 0
    }

    /// `XINFO` of the stream: one map for `STREAM`, one per group for `GROUPS`.
    pub(crate) async fn info(&self, of: &str) -> Vec<HashMap<String, redis::Value>> {
        let mut info = redis::cmd("XINFO");
        info.arg(of).arg(format!("{}:stream", self.name));
        let mut redis = self.redis.clone();
        match of {
            "STREAM" => vec![info.query_async(&mut redis).await.unwrap()],
            _ => info.query_async(&mut redis).await.unwrap(),
        }
    }

    /// Adds an entry with these fields by `XADD`. Returns its id.
    pub(crate) async fn add(&self, fields: &[(&str, String)]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(format!("{}:stream", self.name)).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        let began = Instant::now();
        loop {
            match command.query_async(&mut self.redis.clone()).await {
                Ok(id) => return id,
                // A server without memory takes entries later.
                Err(full) if full.code() == Some("OOM") && began.elapsed() < LIMIT => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("XADD failed: {error}"),
            }
        }
    }

    /// The fields of each dead letter.
    pub(crate) async fn dead(&self) -> Vec<HashMap<String, String>> {
        self.fields_of("dead").await
    }

    /// The fields of each entry that the stream still has.
    pub(crate) async fn entries(&self) -> Vec<HashMap<String, String>> {
        self.fields_of("stream").await
    }

    async fn fields_of(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let mut range = redis::cmd("XRANGE");
        range.arg(format!("{}:{stream}", self.name)).arg("-").arg("+");
        let entries: Vec<(String, HashMap<String, String>)> = range.query_async(&mut self.redis.clone()).await.unwrap();
        entries.into_iter().map(|(_, fields)| fields).collect()
    }

    /// Number of dead letters.
    pub(crate) async fn dead_count(&self) -> u64 {
        let mut length = redis::cmd("XLEN");
        length.arg(format!("{}:dead", self.name)).query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Number of entries ever added to the stream.
    pub(crate) async fn entries_added(&self) -> u64 {
        redis::from_redis_value(self.info("STREAM").await[0]["entries-added"].clone()).unwrap()
    }
}
