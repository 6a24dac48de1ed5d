//! Statements that are sent one after the other without waiting for an answer, so that together they cost one round trip.
//! The server runs them in this order, each on a snapshot of its own, and skips the rest of a transaction after an error.
//!
//! Every statement is prepared before the first one is sent, and sending awaits nothing: either all of them are sent, or,
//! if one cannot be encoded or the connection is closed, those before it. So a commit is never sent without everything
//! before it. A commit after a failed statement is answered without an error, although it is a rollback; therefore the
//! answers are read in order, and the first error is the result of the flight.

use std::borrow::Cow;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::Client;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::cell::Cell;
use super::fault::Error;

/// Never READ WRITE: it would override `default_transaction_read_only`, which a host sets when the disk is full.
const BEGIN: &str = "START TRANSACTION ISOLATION LEVEL READ COMMITTED";

const COMMIT: &str = "COMMIT";

/// A value of a parameter.
pub(super) type Parameter = Box<dyn ToSql + Sync + Send>;

/// The statements of one round trip, in their order. Each execution has a place, from 0 on.
#[derive(Default)]
pub(super) struct Flight {
    begins: bool,
    commits: bool,
    most_bytes: Option<usize>,
    statements: Vec<Cow<'static, str>>,
    executions: Vec<Execution>,
}

/// One execution of a statement, which is named by its index.
struct Execution {
    statement: usize,
    parameters: Parameters,
}

enum Parameters {
    Values(Vec<Parameter>),
    Cells(Vec<Cell>),
}

/// The answer to one execution.
struct Answer {
    rows: Vec<Row>,
    affected: u64,
}

/// The answers by place.
pub(super) struct Answers(Vec<Answer>);

impl Answers {
    pub(super) fn rows(&self, place: usize) -> &[Row] {
        self.0.get(place).map_or(&[], |answer| &answer.rows)
    }

    /// The number of rows that were read or written.
    pub(super) fn affected(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, |answer| answer.affected)
    }
}

/// The first error of a flight.
#[derive(Debug)]
pub(super) struct Failed {
    /// The place of the execution; `None` for the begin, the commit and the preparation of the statements.
    pub(super) place: Option<usize>,
    pub(super) error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { place: None, error }
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::from(error).into()
    }
}

type Request<'a, T> = BoxFuture<'a, Result<T, Error>>;

impl Flight {
    /// A flight that begins a transaction.
    pub(super) fn beginning() -> Self {
        Self { begins: true, ..Self::default() }
    }

    /// Adds a statement and returns its place.
    pub(super) fn add(&mut self, sql: impl Into<Cow<'static, str>>, parameters: Vec<Parameter>) -> usize {
        self.execute(sql.into(), [Parameters::Values(parameters)]).start
    }

    /// Adds a statement that is executed for each row. Returns the places in the order of the rows.
    pub(super) fn add_rows(&mut self, sql: impl Into<Cow<'static, str>>, rows: Vec<Vec<Cell>>) -> Range<usize> {
        self.execute(sql.into(), rows.into_iter().map(Parameters::Cells))
    }

    fn execute(&mut self, sql: Cow<'static, str>, parameters: impl IntoIterator<Item = Parameters>) -> Range<usize> {
        let (statement, start) = (self.statements.len(), self.executions.len());
        self.statements.push(sql);
        self.executions.extend(parameters.into_iter().map(|parameters| Execution { statement, parameters }));
        start..self.executions.len()
    }

    /// Fails with [`Error::TooMuch`] once the answers have more than so many bytes together.
    pub(super) fn read_at_most(&mut self, bytes: usize) {
        self.most_bytes = Some(bytes);
    }

    /// Commits the transaction after the last statement.
    pub(super) fn committing(mut self) -> Self {
        self.commits = true;
        self
    }

    /// Sends everything, then reads the answers.
    ///
    /// # Errors
    /// The first error. If the flight commits and the error is one of the connection, it is unknown whether the server
    /// committed; after an error that the server answered, it did not.
    pub(super) async fn fly(self, client: &Client) -> Result<Answers, Failed> {
        let Self { begins, commits, most_bytes, statements: texts, executions } = self;
        let room = &Room { left: AtomicUsize::new(most_bytes.unwrap_or(usize::MAX)), most_bytes };
        let mut statements = Vec::with_capacity(texts.len());
        for sql in &texts {
            statements.push(client.prepare_cached(sql).await?);
        }
        // Nothing is awaited until everything is sent.
        let begun = begins.then(|| send(run(client, BEGIN))).transpose()?;
        let mut requests = Vec::with_capacity(executions.len());
        for (place, Execution { statement, parameters }) in executions.into_iter().enumerate() {
            let request = send(answer(client, &statements[statement], parameters, room));
            requests.push(request.map_err(|error| Failed { place: Some(place), error })?);
        }
        let committed = commits.then(|| send(run(client, COMMIT))).transpose()?;
        if let Some(begun) = begun {
            begun.await?;
        }
        let mut answers = Vec::with_capacity(requests.len());
        for (place, request) in requests.into_iter().enumerate() {
            answers.push(request.await.map_err(|error| Failed { place: Some(place), error })?);
        }
        if let Some(committed) = committed {
            committed.await?;
        }
        Ok(Answers(answers))
    }
}

/// Sends a request, which its first poll does, and returns what waits for its answer.
fn send<'a, T: Send + 'a>(
    request: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> Result<Request<'a, T>, Error> {
    let mut request = request.boxed();
    match (&mut request).now_or_never() {
        None => Ok(request),
        Some(answer) => answer.map(|answer| async { Ok(answer) }.boxed()),
    }
}

/// What the answers of a flight may still have, in bytes.
struct Room {
    left: AtomicUsize,
    most_bytes: Option<usize>,
}

impl Room {
    fn take(&self, bytes: usize) -> Result<(), Error> {
        // The answers are read one after the other, so nothing changes it in between.
        let left = self.left.load(Ordering::Relaxed).checked_sub(bytes);
        self.left.store(left.ok_or(Error::TooMuch(self.most_bytes.unwrap_or_default()))?, Ordering::Relaxed);
        Ok(())
    }
}

async fn run(client: &Client, sql: &str) -> Result<(), Error> {
    Ok(client.batch_execute(sql).await?)
}

async fn answer(
    client: &tokio_postgres::Client,
    statement: &Statement,
    parameters: Parameters,
    room: &Room,
) -> Result<Answer, Error> {
    let answer = match parameters {
        Parameters::Values(values) => client.query_raw(statement, values).await?,
        Parameters::Cells(cells) => client.query_raw(statement, cells).await?,
    };
    let (mut answer, mut rows) = (pin!(answer), Vec::new());
    while let Some(row) = answer.try_next().await? {
        room.take(row.raw_size_bytes())?;
        rows.push(row);
    }
    Ok(Answer { rows, affected: answer.rows_affected().unwrap_or_default() })
}
