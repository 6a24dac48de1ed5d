//! The file: one connection for writes, another for reads. Every call of SQLite blocks and runs on a thread that may
//! block.
//!
//! Several processes may have the file open: one holds the [`Lock`] of the directory, commands run without it. Each
//! write is one short transaction that takes the write lock at its start, so two processes wait for each other (see
//! [`PATIENCE`]) and never fail on a lock upgrade.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use chunk_sync_engine::ports::{Applied, Fault, FaultClass, Policy, Write};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::{Error, PATIENCE};
use super::lease_state::HeldLease;
use super::lock::Lock;
use super::schema;

/// How durable a committed transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It survives a crash of the machine.
    Synced,
    /// It survives a crash of this process. A crash of the machine may lose it, which is harmless for such a
    /// transaction.
    Lazy,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    /// The lock of the directory, when this process holds it.
    lock: Mutex<Option<Lock>>,
    /// When a transaction of this process began to wait for the write lock; `None` while none waits.
    waiting: Mutex<Option<Instant>>,
    /// Which part of this process works the stream.
    pub(super) lease: HeldLease,
}

impl Database {
    /// Opens the file and creates it when it does not exist. The holder of `lock` also migrates older tables.
    pub(super) fn open(path: &Path, lock: Option<Lock>) -> Result<Self, Fault> {
        let open = || -> Result<(Connection, Connection), Error> {
            create(path)?;
            let mut writer = Connection::open(path)?;
            set_up(&writer)?;
            writer.pragma_update(None, "journal_mode", "WAL")?;
            schema::prepare(&mut writer, lock.is_some())?;
            let reader =
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            set_up(&reader)?;
            Ok((writer, reader))
        };
        let (writer, reader) = open().map_err(|error| error.into_fault("embedded stores"))?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            lock: Mutex::new(lock),
            waiting: Mutex::default(),
            lease: HeldLease::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process holds the lock of the directory.
    pub(super) fn is_worked_here(&self) -> bool {
        held(&self.lock).is_some()
    }

    /// Takes the lock of the directory, held until the file is closed. Blocks.
    pub(super) fn work(&self, command: &str) -> Result<(), Fault> {
        let mut lock = held(&self.lock);
        if lock.is_none() {
            *lock = Some(Lock::take(self.path.parent().unwrap_or(Path::new(".")), command)?);
        }
        Ok(())
    }

    /// Runs `work` in a transaction and commits it with the given durability.
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

    /// Like [`Self::write`], on the calling thread, which must be allowed to block.
    pub(super) fn write_now<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = held(&self.writer);
        connection.pragma_update(
            None,
            "synchronous",
            match durability {
                Durability::Synced => "FULL",
                Durability::Lazy => "NORMAL",
            },
        )?;
        *held(&self.waiting) = Some(Instant::now());
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        *held(&self.waiting) = None;
        let transaction = begun.map_err(Error::of_begin)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Applies the writes of a batch in one transaction. If it is refused, one of them is the cause.
    pub(super) async fn apply<F>(self: &Arc<Self>, context: &'static str, writes: &[Write], apply: F) -> Vec<Applied>
    where
        F: Fn(&Transaction<'_>, &Write) -> Result<Applied, Error> + Send + 'static,
    {
        let owned = writes.to_vec();
        let work = move |transaction: &Transaction<'_>| owned.iter().map(|write| apply(transaction, write)).collect();
        self.write(context, Durability::Synced, work).await.unwrap_or_else(|fault| {
            let divisible = writes.len() > 1 && fault.policy() == Policy::DeadLetter;
            vec![Applied::Failed(Fault { divisible, ..fault }); writes.len()]
        })
    }

    /// The connection that writes: no transaction of this process runs while the guard lives.
    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on one read snapshot of the file.
    pub(super) async fn read<T, F>(self: &Arc<Self>, context: &'static str, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let database = Arc::clone(self);
        let work = move || {
            let mut connection = held(&database.reader);
            let snapshot = connection.transaction()?;
            work(&snapshot)
        };
        blocking(context, work).await
    }

    /// A number that changes with every transaction committed by any process. Reads no table.
    pub(super) async fn data_version(self: &Arc<Self>, context: &'static str) -> Result<i64, Fault> {
        let database = Arc::clone(self);
        let work = move || Ok(held(&database.reader).query_row("PRAGMA data_version", [], |row| row.get(0))?);
        blocking(context, work).await
    }

    /// How long a transaction of this process has been waiting for the write lock.
    pub(super) fn waiting(&self) -> Option<Duration> {
        held(&self.waiting).map(|since| since.elapsed())
    }

    /// Runs `look` on the writing connection; `None` when that is in use.
    pub(super) fn if_idle<T>(&self, look: impl FnOnce(&Connection) -> T) -> Option<T> {
        match self.writer.try_lock() {
            Ok(connection) => Some(look(&connection)),
            Err(TryLockError::Poisoned(poisoned)) => Some(look(&poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of the file, with what is free in it.
pub(super) fn bytes(transaction: &Transaction<'_>) -> Result<u64, Error> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    Ok(transaction.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Creates the file with mode 0600. SQLite gives the -wal and -shm files the mode of the database.
fn create(path: &Path) -> Result<(), Error> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop).map_err(Error::Create)
}

fn set_up(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(PATIENCE)?;
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
