//! Connections to the server: one that all commands share, opened anew after it failed, and single ones for reads that wait.
//!
//! The library's own manager is not used: it keeps a connection whose answers time out (half-open, it times out for ever),
//! and one whose login failed once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, Script, ServerErrorKind};
use tokio::sync::Mutex;

use super::config::RedisConfig;
use super::fault::Error;
use chunk_sync_engine::ports::Fault;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The server, as this process reaches it.
pub(super) struct Connection {
    client: Client,
    answer_within: Duration,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Counts what has been opened: a failure closes only the connection that it was met on.
    generation: u64,
    open: Option<MultiplexedConnection>,
}

impl Connection {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Fault> {
        Ok(Self { client: config.client()?, answer_within: config.answer_within, shared: Mutex::default() })
    }

    /// A connection for reads that wait up to `wait`: its answers may take that long, and 5 s more.
    pub(super) async fn for_reads(&self, wait: Duration) -> Result<MultiplexedConnection, Error> {
        self.open(wait + Duration::from_secs(5)).await
    }

    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let (generation, mut connection) = self.shared().await?;
        let answer = command.query_async(&mut connection).await.map_err(Error::from);
        self.judge(generation, answer).await
    }

    pub(super) async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Error> {
        let (generation, mut connection) = self.shared().await?;
        let answer = commands.query_async(&mut connection).await.map_err(Error::from);
        self.judge(generation, answer).await
    }

    /// Runs a script with these keys; `arguments` adds what follows them. A server that does not know it is told.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<T, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len()).arg(keys);
        arguments(&mut command);
        match self.query(&command).await {
            Err(Error::Redis(error)) if error.kind() == ServerErrorKind::NoScript.into() => {
                let (generation, mut connection) = self.shared().await?;
                let loaded = script.load_async(&mut connection).await.map_err(Error::from);
                self.judge(generation, loaded).await?;
                self.query(&command).await
            }
            answer => answer,
        }
    }

    async fn shared(&self) -> Result<(u64, MultiplexedConnection), Error> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &shared.open {
            return Ok((shared.generation, connection.clone()));
        }
        let connection = self.open(self.answer_within).await?;
        shared.generation += 1;
        shared.open = Some(connection.clone());
        Ok((shared.generation, connection))
    }

    async fn open(&self, answer_within: Duration) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(answer_within));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    async fn judge<T>(&self, generation: u64, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().is_err_and(Error::is_of_connection) {
            let mut shared = self.shared.lock().await;
            if shared.generation == generation {
                shared.open = None;
            }
        }
        answer
    }
}
