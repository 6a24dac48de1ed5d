//! Connections to the server: one that all commands share, reopened after a failure, and separate ones for blocking reads.
//!
//! The library's connection manager is not used: it keeps a connection whose answers time out (a half-open one times out
//! for ever) and a connection whose login failed once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, Script};
use tokio::sync::Mutex;

use super::config::RedisConfig;
use super::endpoint::Endpoint;
use super::fault::Error;
use chunk_sync_engine::ports::Fault;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Access of this process to the server.
pub(super) struct Connection {
    endpoint: Endpoint,
    answer_within: Duration,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Number of connections opened so far. A failure closes only the connection on which it occurred.
    generation: u64,
    open: Option<MultiplexedConnection>,
}

enum Question<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Question<'_> {
    async fn put<T: FromRedisValue>(&self, mut connection: MultiplexedConnection) -> Result<T, Error> {
        Ok(match self {
            Self::One(command) => command.query_async(&mut connection).await?,
            Self::Many(commands) => commands.query_async(&mut connection).await?,
        })
    }
}

impl Connection {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Fault> {
        Ok(Self { endpoint: config.endpoint()?, answer_within: config.answer_within, shared: Mutex::default() })
    }

    /// A connection for reads that block up to `wait`. Its answer timeout is `wait` plus 5 s.
    pub(super) async fn for_reads(&self, wait: Duration) -> Result<MultiplexedConnection, Error> {
        self.open(wait + Duration::from_secs(5)).await
    }

    /// Sends a command. Sends it a second time if a connection that was already open broke, as all connections do when the
    /// server restarts. A command that must not be repeated unnoticed is sent with [`Self::script_once`].
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.ask(&Question::One(command)).await
    }

    /// Like [`Self::query`], with several commands.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Error> {
        self.ask(&Question::Many(commands)).await
    }

    /// Runs a script with these keys; `arguments` appends the arguments. Loads the script if the server does not have it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<T, Error> {
        let command = invocation(script, keys, arguments);
        self.loaded(script, || self.query(&command)).await
    }

    /// Like [`Self::script`], but does not repeat the call when the connection breaks.
    pub(super) async fn script_once<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<T, Error> {
        let command = invocation(script, keys, arguments);
        self.loaded(script, || async { self.ask_once(&Question::One(&command)).await?.1 }).await
    }

    /// Calls a script; if the server does not have it, loads it and calls it again.
    async fn loaded<T, F: Future<Output = Result<T, Error>>>(
        &self,
        script: &Script,
        call: impl Fn() -> F,
    ) -> Result<T, Error> {
        match call().await {
            Err(error) if error.is_no_script() => {
                let (_, _, mut connection) = self.shared().await?;
                script.load_async(&mut connection).await?;
                call().await
            }
            answer => answer,
        }
    }

    async fn ask<T: FromRedisValue>(&self, question: &Question<'_>) -> Result<T, Error> {
        let (fresh, answer) = self.ask_once(question).await?;
        match answer {
            Err(error) if !fresh && error.is_broken() => self.ask_once(question).await?.1,
            answer => answer,
        }
    }

    /// Whether the connection was opened for this call, and the answer.
    async fn ask_once<T: FromRedisValue>(&self, question: &Question<'_>) -> Result<(bool, Result<T, Error>), Error> {
        let (generation, fresh, connection) = self.shared().await?;
        let answer = question.put(connection).await;
        if answer.as_ref().is_err_and(Error::is_of_connection) {
            let mut shared = self.shared.lock().await;
            if shared.generation == generation {
                shared.open = None;
            }
        }
        Ok((fresh, answer))
    }

    /// Generation of the shared connection, whether this call opened it, and the connection.
    async fn shared(&self) -> Result<(u64, bool, MultiplexedConnection), Error> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &shared.open {
            return Ok((shared.generation, false, connection.clone()));
        }
        let connection = match self.open(self.answer_within).await {
            // Before the first connection the URL may be wrong; later the server is away.
            Err(error) if shared.generation == 0 => return Err(self.endpoint.explained(error).await),
            opened => opened?,
        };
        shared.generation += 1;
        shared.open = Some(connection.clone());
        Ok((shared.generation, true, connection))
    }

    async fn open(&self, answer_within: Duration) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(answer_within));
        let client = self.endpoint.client().await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        if self.endpoint.follows_a_master() {
            // The Sentinels may not have noticed yet, or the server not, that another one is the master.
            let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
            if role.first() != Some(&redis::Value::BulkString(b"master".to_vec())) {
                return Err(Error::NotTheMaster);
            }
        }
        Ok(connection)
    }
}

fn invocation(script: &Script, keys: &[&str], arguments: impl FnOnce(&mut Cmd)) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    arguments(&mut command);
    command
}
