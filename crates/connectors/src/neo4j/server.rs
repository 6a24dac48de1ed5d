//! Transactions with a deadline, none of which stays open on the server.
//!
//! Statements are collected and sent in one flight; the server executes them one after the other and ignores the rest
//! after a failure. A connection goes back to the pool only when the server has confirmed the end of its transaction.
//! Otherwise, after a cancelled call or an error of the connection, it is closed, and the server rolls back. A
//! transaction that waits for a lock does not notice the closed connection: the server ends it shortly after the
//! deadline.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::Fault;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::bolt::{Connection, Request, Row, Statement};
use super::config::Neo4jConfig;
use super::fault::Error;
use super::leader::Leader;

/// Maximum number of connections in use.
const CONNECTIONS: usize = 8;

/// A connection that was idle for longer is tried before it is used.
const TRUSTED: Duration = Duration::from_secs(1);

/// How long after the deadline the server ends a transaction.
const GRACE: Duration = Duration::from_secs(1);

/// A server, and a pool of connections to it. In a cluster it is the leader of the database.
pub(super) struct Server {
    leader: Leader,
    database: String,
    timeout: Duration,
    idle: Mutex<Vec<Idle>>,
    places: Semaphore,
}

struct Idle {
    connection: Connection,
    since: Instant,
    /// See [`Leader::generation`].
    generation: u64,
}

impl Server {
    /// Creates no connection yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured), see [`Neo4jConfig::address`].
    pub(super) fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        Ok(Self {
            leader: Leader::new(config)?,
            database: config.database.clone(),
            timeout: config.timeout,
            idle: Mutex::default(),
            places: Semaphore::new(CONNECTIONS),
        })
    }

    /// Begins a transaction. The configured timeout, from now on, is the deadline for all of its statements and its
    /// end.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Error> {
        let deadline = Instant::now() + self.timeout;
        let late = Error::Deadline(self.timeout);
        let (place, mut connection, generation) = match timeout_at(deadline, self.connection()).await {
            Ok(connected) => connected?,
            Err(_) => {
                self.leader.forget(self.leader.generation());
                return Err(late);
            }
        };
        connection.request(&Request::Begin(&self.database, self.timeout + GRACE));
        Ok(Transaction { server: self, connection: Some(connection), generation, deadline, _place: place })
    }

    /// The texts in a column of a statement's result. Rolls the statement back.
    pub(super) async fn texts(&self, statement: &Statement, column: &'static str) -> Result<Vec<String>, Error> {
        let mut transaction = self.begin().await?;
        let rows = transaction.rows(statement).await;
        transaction.rollback().await;
        rows?.iter().map(|row| row.text(column).map(str::to_owned).ok_or(Error::Answer(column))).collect()
    }

    /// A place, a connection to the leader, and the generation of the leader.
    async fn connection(&self) -> Result<(SemaphorePermit<'_>, Connection, u64), Error> {
        // The semaphore is never closed.
        let place = self.places.acquire().await.map_err(|error| Error::Setup(error.to_string()))?;
        while let Some(Idle { mut connection, since, generation }) = self.take_idle() {
            if generation == self.leader.generation() && (since.elapsed() < TRUSTED || connection.reset().await.is_ok())
            {
                return Ok((place, connection, generation));
            }
        }
        let (connection, generation) = self.leader.connect(&self.database).await?;
        Ok((place, connection, generation))
    }

    fn take_idle(&self) -> Option<Idle> {
        self.lock().pop()
    }

    /// The error of a request to the leader of that generation: another server may be the leader from now on.
    fn after(&self, error: &Error, generation: u64) {
        if error.wants_another_server() {
            self.leader.forget(generation);
            self.lock().retain(|idle| idle.generation != generation);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction in progress. Dropping it without `commit` or `rollback` closes its connection, which rolls it back.
pub(super) struct Transaction<'a> {
    server: &'a Server,
    connection: Option<Connection>,
    generation: u64,
    deadline: Instant,
    _place: SemaphorePermit<'a>,
}

impl Transaction<'_> {
    /// Adds a statement to the next flight; its result is empty.
    pub(super) fn add(&mut self, statement: &Statement) {
        self.request(&[Request::Run(statement), Request::Discard]);
    }

    /// Adds a statement to the next flight; its result are its rows.
    pub(super) fn query(&mut self, statement: &Statement) {
        self.request(&[Request::Run(statement), Request::Pull]);
    }

    /// Sends the flight; returns the result of each of its statements, in their order.
    pub(super) async fn results(&mut self) -> Result<Vec<Vec<Row>>, Error> {
        let late = Error::Deadline(self.server.timeout);
        let Some(connection) = &mut self.connection else { return Ok(Vec::new()) };
        let results = timeout_at(self.deadline, connection.finish()).await.unwrap_or(Err(late));
        match results {
            Err(error) if error.is_no_database() => Err(self.server.leader.no_database(&self.server.database).await),
            Err(error) => {
                self.server.after(&error, self.generation);
                Err(error)
            }
            results => results,
        }
    }

    /// Runs a statement and discards its result.
    pub(super) async fn run(&mut self, statement: &Statement) -> Result<(), Error> {
        self.add(statement);
        self.results().await.map(drop)
    }

    /// Runs a statement and returns its result rows.
    pub(super) async fn rows(&mut self, statement: &Statement) -> Result<Vec<Row>, Error> {
        self.query(statement);
        Ok(self.results().await?.pop().unwrap_or_default())
    }

    /// Commits, after the statements that were added. After an error other than [`Error::Server`] it is unknown whether
    /// the transaction was committed.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        self.request(&[Request::Commit]);
        let ended = self.results().await;
        self.give_back();
        ended.map(drop)
    }

    /// Rolls back. If the server does not confirm it, the connection is closed, which rolls back.
    pub(super) async fn rollback(mut self) {
        let Some(connection) = &mut self.connection else { return };
        let ended = async {
            if connection.is_failed() {
                return connection.reset().await;
            }
            connection.request(&Request::Rollback);
            connection.finish().await.map(drop)
        };
        if matches!(timeout_at(self.deadline, ended).await, Ok(Ok(()))) {
            self.give_back();
        }
    }

    fn request(&mut self, requests: &[Request<'_>]) {
        if let Some(connection) = &mut self.connection {
            requests.iter().for_each(|request| connection.request(request));
        }
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take_if(|connection| connection.is_clean()) {
            self.server.lock().push(Idle { connection, since: Instant::now(), generation: self.generation });
        }
    }
}
