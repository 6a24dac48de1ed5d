//! The file: one connection that writes, one that reads beside it. Every call blocks, and is made on a thread that may.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_sync_engine::ports::{Fault, FaultClass};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::Error;
use super::lease::Held;
use super::lock::Lock;
use super::schema;

/// How durable a transaction is when it has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It survives a crash of the machine.
    Synced,
    /// It survives a crash of this process; one of the machine may undo it, and that does no harm.
    Lazy,
}

/// The file, held by this process.
#[derive(Debug)]
pub(super) struct Database {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    /// Which part of this process works the stream.
    pub(super) lease: Held,
    _lock: Lock,
}

impl Database {
    pub(super) fn open(path: &Path, lock: Lock) -> Result<Self, Fault> {
        let open = || -> Result<(Connection, Connection), Error> {
            let mut writer = Connection::open(path)?;
            writer.pragma_update(None, "journal_mode", "WAL")?;
            set_up(&writer)?;
            schema::prepare(&mut writer)?;
            let reader =
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            set_up(&reader)?;
            Ok((writer, reader))
        };
        let (writer, reader) = open().map_err(|error| error.into_fault("embedded stores"))?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(reader), lease: Held::default(), _lock: lock })
    }

    /// Runs `work` in a transaction, durable on return as said.
    pub(super) async fn write<T, F>(
        self: &Arc<Self>,
        context: &'static str,
        durability: Durability,
        work: F,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let database = Arc::clone(self);
        blocking(context, move || database.write_now(durability, work)).await
    }

    /// The same on this very thread, which may block.
    pub(super) fn write_now<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = self.writer();
        connection.pragma_update(
            None,
            "synchronous",
            match durability {
                Durability::Synced => "FULL",
                Durability::Lazy => "NORMAL",
            },
        )?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// The connection that writes: no transaction of this process is under way while the guard lives.
    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on one snapshot of the file.
    pub(super) async fn read<T, F>(self: &Arc<Self>, context: &'static str, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let database = Arc::clone(self);
        let work = move || {
            let mut connection = database.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let snapshot = connection.transaction()?;
            work(&snapshot)
        };
        blocking(context, work).await
    }
}

fn set_up(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -32_768)?;
    Ok(())
}

async fn blocking<T, F>(context: &'static str, work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.into_fault(context)),
        Err(panic) => Err(Fault::new(FaultClass::Corrupt, context, panic)),
    }
}
