//! Transactions with an end: each has a deadline, and none is left open on the server.
//!
//! The client sends no ROLLBACK for a transaction that is dropped, and cannot send one where an exchange was broken off
//! or a statement failed: until its connection is closed or reset, such a transaction keeps its locks. So whatever was
//! not ended by the server's word takes the pool of connections with it: the idle ones are closed, the busy ones when
//! they are done, and the next transaction opens a new one.

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
    /// Connects to nothing yet.
    pub(super) fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        Ok(Self { client: config.client()?, timeout: config.timeout, pool: Mutex::new(None) })
    }

    /// Begins a transaction that is over by the deadline.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Error> {
        let deadline = Instant::now() + self.timeout;
        let pool = self.pool()?;
        // Made before the wait: broken off in the middle, the connection must go as well.
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

/// A transaction in progress. Dropped without an end, it is undone.
pub(super) struct Transaction<'a> {
    server: &'a Server,
    txn: Option<Txn>,
    open: bool,
    deadline: Instant,
}

impl Transaction<'_> {
    /// Runs a statement for what it does.
    pub(super) async fn run(&mut self, query: Query) -> Result<(), Error> {
        let (late, deadline) = (Error::Deadline(self.server.timeout), self.deadline);
        timeout_at(deadline, self.txn()?.run(query)).await.map_err(|_| late)??;
        Ok(())
    }

    /// Runs a statement on each row of its one parameter, for what it does; without rows it does nothing.
    pub(super) async fn run_on(&mut self, text: &str, parameter: &str, rows: Vec<BoltType>) -> Result<(), Error> {
        for part in cut(text, rows) {
            self.run(query(text).param(parameter, part)).await?;
        }
        Ok(())
    }

    /// Runs a statement on each row of its one parameter, for its rows.
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

    /// Runs a statement for its rows.
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

    /// Makes durable what was done. After an error nobody knows whether it is.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        let late = Error::Deadline(self.server.timeout);
        if let Some(txn) = self.txn.take() {
            timeout_at(self.deadline, txn.commit()).await.map_err(|_| late)??;
        }
        self.open = false;
        Ok(())
    }

    /// Undoes what was done. Where the server cannot be told, its connection is closed, which says the same.
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
