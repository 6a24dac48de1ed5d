//! Transactions with a deadline, none of which stays open on the server.
//!
//! The client sends no ROLLBACK when a transaction is dropped, and cannot send one after an interrupted exchange or a
//! failed statement. Such a transaction keeps its locks until its connection is closed or reset. Therefore, unless the
//! server confirmed the end of a transaction, the whole connection pool is discarded: idle connections close at once,
//! busy ones when their transaction ends, and the next transaction opens a new pool.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::Fault;
use neo4rs::{BoltType, Graph, Query, Row, Txn, query};
use tokio::time::{Instant, timeout_at};

use super::config::Neo4jConfig;
use super::fault::Error;
use super::message::cut;

/// A server, and a pool of connections to it.
pub(super) struct Server {
    client: neo4rs::Config,
    timeout: Duration,
    pool: Mutex<Option<Graph>>,
}

impl Server {
    /// Creates no connection yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured) if the URL is invalid, see
    /// [`Neo4jConfig::client`].
    pub(super) fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        Ok(Self { client: config.client()?, timeout: config.timeout, pool: Mutex::new(None) })
    }

    /// Begins a transaction. The configured timeout, from now on, is the deadline for all of its statements and its
    /// end.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Error> {
        let deadline = Instant::now() + self.timeout;
        let pool = self.pool()?;
        // Created before the wait: if this call is cancelled, dropping it discards the pool.
        let mut transaction = Transaction { server: self, txn: None, open: true, deadline };
        let begun = timeout_at(deadline, pool.start_txn()).await.map_err(|_| Error::Deadline(self.timeout))?;
        transaction.txn = Some(begun?);
        Ok(transaction)
    }

    fn pool(&self) -> Result<Graph, Error> {
        let mut held = self.lock();
        if let Some(pool) = &*held {
            return Ok(pool.clone());
        }
        let pool = Graph::connect(self.client.clone())?;
        *held = Some(pool.clone());
        Ok(pool)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Graph>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction in progress. Dropping it without `commit` or `rollback` discards the pool, which rolls it back.
pub(super) struct Transaction<'a> {
    server: &'a Server,
    txn: Option<Txn>,
    open: bool,
    deadline: Instant,
}

impl Transaction<'_> {
    /// Runs a statement and discards its result.
    pub(super) async fn run(&mut self, query: Query) -> Result<(), Error> {
        let (late, deadline) = (Error::Deadline(self.server.timeout), self.deadline);
        timeout_at(deadline, self.txn()?.run(query)).await.map_err(|_| late)??;
        Ok(())
    }

    /// Runs a statement on the rows of its only parameter, in as many messages as needed, and discards the results.
    /// Sends nothing if `rows` is empty.
    pub(super) async fn run_on(&mut self, text: &str, parameter: &str, rows: Vec<BoltType>) -> Result<(), Error> {
        for part in cut(text, rows) {
            self.run(query(text).param(parameter, part)).await?;
        }
        Ok(())
    }

    /// Runs a statement on the rows of its only parameter, in as many messages as needed, and returns all result rows.
    pub(super) async fn rows_on(
        &mut self,
        text: &str,
        parameter: &str,
        rows: Vec<BoltType>,
    ) -> Result<Vec<Row>, Error> {
        let mut found = Vec::new();
        for part in cut(text, rows) {
            found.extend(self.rows(query(text).param(parameter, part)).await?);
        }
        Ok(found)
    }

    /// Runs a statement and returns its result rows.
    pub(super) async fn rows(&mut self, query: Query) -> Result<Vec<Row>, Error> {
        let (late, deadline) = (Error::Deadline(self.server.timeout), self.deadline);
        let txn = self.txn()?;
        let read = async {
            let mut stream = txn.execute(query).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next(txn.handle()).await? {
                rows.push(row);
            }
            Ok(rows)
        };
        timeout_at(deadline, read).await.map_err(|_| late)?
    }

    /// Commits. After an error it is unknown whether the transaction was committed.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        let late = Error::Deadline(self.server.timeout);
        if let Some(txn) = self.txn.take() {
            timeout_at(self.deadline, txn.commit()).await.map_err(|_| late)??;
        }
        self.open = false;
        Ok(())
    }

    /// Rolls back. If the server does not confirm it, the pool is discarded, and closing the connection rolls back.
    pub(super) async fn rollback(mut self) {
        if let Some(txn) = self.txn.take() {
            self.open = !matches!(timeout_at(self.deadline, txn.rollback()).await, Ok(Ok(())));
        }
    }

    fn txn(&mut self) -> Result<&mut Txn, Error> {
        self.txn.as_mut().ok_or(Error::Client(neo4rs::Error::ConnectionError))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            *self.server.lock() = None;
        }
    }
}
