//! A transaction that owns its connection, so that it can be handed out and outlive the call that began it.

use deadpool_postgres::Client;
use futures::FutureExt as _;

use super::fault::Error;
use super::pool::Pool;

/// An open transaction with its connection, which is absent only once the transaction has ended. Dropped before, it rolls
/// back.
pub(super) struct OpenTransaction(Option<Client>);

impl OpenTransaction {
    /// Begins at the isolation level READ COMMITTED.
    pub(super) async fn begin(pool: &Pool) -> Result<Self, Error> {
        let mut transaction = Self(Some(pool.get().await?));
        // Never READ WRITE: it would override `default_transaction_read_only`, which a host sets when the disk is full.
        let begin = "START TRANSACTION ISOLATION LEVEL READ COMMITTED";
        let begun = pool.within(async { Ok(transaction.client()?.batch_execute(begin).await?) }).await;
        match begun {
            Ok(()) => Ok(transaction),
            Err(error) => Err(transaction.roll_back(pool, error).await),
        }
    }

    pub(super) fn client(&self) -> Result<&Client, Error> {
        self.0.as_ref().ok_or(Error::NoConnection)
    }

    /// Commits. After a failure it is unknown whether the server committed.
    pub(super) async fn commit(mut self, pool: &Pool) -> Result<(), Error> {
        let committed = pool.within(async { Ok(self.client()?.batch_execute("COMMIT").await?) }).await;
        match self.0.take() {
            Some(client) => pool.settle(client, committed),
            None => committed,
        }
    }

    /// Rolls back after `error` and returns it. A connection that hit the deadline is closed, which rolls back as well.
    pub(super) async fn roll_back(&mut self, pool: &Pool, error: Error) -> Error {
        let Some(client) = self.0.take() else { return error };
        let overdue = matches!(error, Error::Deadline(_));
        if overdue || pool.within(async { Ok(client.batch_execute("ROLLBACK").await?) }).await.is_err() {
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
