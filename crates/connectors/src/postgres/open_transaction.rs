//! A transaction that owns its connection, so that it can be handed out and outlive the call that began it.

use deadpool_postgres::Client;
use futures::FutureExt;

use super::fault::Error;
use super::flight::{Answers, Failed, Flight};
use super::pool::Pool;

/// An open transaction with its connection, which is absent only once the transaction has ended. Dropped before, it rolls
/// back. Dropped while answers are awaited, it closes the connection.
pub(super) struct OpenTransaction(Option<Client>);

impl OpenTransaction {
    /// Begins at the isolation level READ COMMITTED, with the first statements in the same round trip.
    pub(super) async fn begin(pool: &Pool, flight: Flight) -> Result<(Self, Answers), Error> {
        let mut transaction = Self(Some(pool.get().await?));
        let answers = transaction.fly(pool, flight).await.map_err(|failed| failed.error)?;
        Ok((transaction, answers))
    }

    pub(super) fn client(&self) -> Result<&Client, Error> {
        self.0.as_ref().ok_or(Error::NoConnection)
    }

    /// Sends the statements and reads their answers. Rolls back if one fails.
    pub(super) async fn fly(&mut self, pool: &Pool, flight: Flight) -> Result<Answers, Failed> {
        let mut used = Used(self.0.take());
        let client = used.0.as_ref().ok_or(Error::NoConnection)?;
        let flown = pool.within(async { Ok(flight.fly(client).await) }).await;
        self.0 = used.0.take();
        match flown.map_err(Failed::from).flatten() {
            Ok(answers) => Ok(answers),
            Err(Failed { place, error }) => Err(Failed { place, error: self.roll_back(pool, error).await }),
        }
    }

    /// Sends the statements and commits in the same round trip. After a failure of the connection it is unknown whether the
    /// server committed.
    pub(super) async fn commit(mut self, pool: &Pool, flight: Flight) -> Result<(), Failed> {
        let committed = self.fly(pool, flight.committing()).await.map(drop);
        // Nothing is left to be rolled back: the connection goes back to the pool as it is.
        drop(self.0.take());
        committed
    }

    /// Rolls back after `error` and returns it. A connection that hit the deadline is closed, which rolls back as well; so is
    /// one with more answers than are read, and one whose session takes no writes: it stays so after the database takes
    /// writes again.
    pub(super) async fn roll_back(&mut self, pool: &Pool, error: Error) -> Error {
        let Some(client) = self.0.take() else { return error };
        let is_useless = matches!(error, Error::Deadline(_) | Error::TooMuch(_)) || error.is_read_only();
        if is_useless || pool.within(async { Ok(client.batch_execute("ROLLBACK").await?) }).await.is_err() {
            drop(Client::take(client));
        }
        error
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            // The first poll sends the statement; nothing waits for its answer. The connection goes back to the pool, and
            // whatever is sent on it next runs after the rollback.
            let _ = client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// A connection on which answers are awaited. Dropped meanwhile, it is closed: what was sent on it may include a commit.
struct Used(Option<Client>);

impl Drop for Used {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}
