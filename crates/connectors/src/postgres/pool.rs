//! Connections to the server: pooled, each with its prepared statements, none used again that did not
//! answer.

use std::future::Future;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use deadpool_postgres::{Client, Manager, ManagerConfig, RecyclingMethod, Runtime};

use super::config::PostgresConfig;
use super::fault::Error;
use super::tls::Tls;

/// A pool of connections, and the time that an operation may take.
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    deadline: Duration,
}

impl Pool {
    /// Connects to nothing yet.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, Fault> {
        let wrong = |error: String| Fault::new(FaultClass::Misconfigured, "postgres: configuration", error);
        let tls = Tls::new().map_err(|error| wrong(error.to_string()))?;
        // Without a question to the server first: a connection that broke meanwhile is known to be closed.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config.client()?, tls, recycling);
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.connect_timeout + config.statement_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { pool, deadline: 2 * config.statement_timeout })
    }

    /// A connection of the pool, or a new one.
    pub(super) async fn get(&self) -> Result<Client, Error> {
        Ok(self.pool.get().await?)
    }

    /// Runs an exchange to its deadline. The server ends statements by itself; this is for one that does not answer.
    pub(super) async fn within<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or(Err(Error::Deadline(self.deadline)))
    }

    /// Gives a connection back after an exchange; one that has not answered is closed.
    pub(super) fn settle<T>(&self, client: Client, done: Result<T, Error>) -> Result<T, Error> {
        if matches!(done, Err(Error::Deadline(_))) {
            drop(Client::take(client));
        }
        done
    }

    /// Has every statement prepared anew, after the tables changed.
    pub(super) fn forget_statements(&self) {
        self.pool.manager().statement_caches.clear();
    }
}
