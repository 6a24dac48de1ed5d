//! The connection pool. Each connection keeps its prepared statements; one that has not answered is never used again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use deadpool_postgres::{Client, Manager, ManagerConfig, RecyclingMethod, Runtime};

use super::config::PostgresConfig;
use super::fault::Error;
use super::link::{Link, Opener, RowsLogin, Setting};

/// A pool of connections, and the time limit of an operation.
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    deadline: Duration,
    is_pooled: Arc<AtomicBool>,
}

impl Pool {
    /// Creates the pool. Opens no connection yet.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, Fault> {
        let wrong = |error: String| Fault::new(FaultClass::Misconfigured, "postgres: configuration", error);
        // No test query before use: the client knows when a connection has been closed.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let is_pooled = Arc::new(AtomicBool::new(false));
        let login = RowsLogin { settings: settings(config), is_pooled: Arc::clone(&is_pooled) };
        let opener = Opener { link: Link::of(config)?, login };
        let manager = Manager::from_connect(tokio_postgres::Config::new(), opener, recycling);
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.connect_timeout + config.statement_timeout))
            // `link` limits each of its attempts: a list of hosts takes as long as its members.
            .create_timeout(None)
            .recycle_timeout(Some(config.connect_timeout))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { pool, deadline: 2 * config.statement_timeout, is_pooled })
    }

    /// Whether a pooler answered the last login.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// A connection of the pool, or a new one.
    pub(super) async fn get(&self) -> Result<Client, Error> {
        Ok(self.pool.get().await?)
    }

    /// Runs an exchange with a deadline. The server enforces the statement timeout; this covers a server that does not
    /// answer.
    pub(super) async fn within<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or(Err(Error::Deadline(self.deadline)))
    }

    /// Returns a connection to the pool after an exchange. Closes it when the exchange hit the deadline, or when the session
    /// is read-only: it stays so after the database takes writes again.
    pub(super) fn settle<T>(&self, client: Client, done: Result<T, Error>) -> Result<T, Error> {
        if matches!(done, Err(Error::Deadline(_))) || done.as_ref().is_err_and(Error::is_read_only) {
            drop(Client::take(client));
        }
        done
    }

    /// Closes the connections that are not in use.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Drops all prepared statements, after the tables changed.
    pub(super) fn forget_statements(&self) {
        self.pool.manager().statement_caches.clear();
    }
}

/// The settings of every session, or of every transaction behind a pooler. They are not sent as start-up options, which
/// poolers refuse.
fn settings(config: &PostgresConfig) -> Vec<Setting> {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    vec![
        ("statement_timeout", milliseconds(config.statement_timeout)),
        ("lock_timeout", milliseconds(config.lock_timeout)),
        ("idle_in_transaction_session_timeout", milliseconds(2 * config.statement_timeout)),
        ("synchronous_commit", "on".to_owned()),
        ("row_security", "off".to_owned()),
    ]
}
