//! Capture from the log. Both plugins report the same changes.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::postgres::{CaptureConfig, Plugin, PostgresCapture, Publish};
use chunk_sync_engine::ports::{Capture, Captured, FaultClass, Gap, Opened, Position, Source, Touch};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Server};

pub(crate) struct Environment {
    pub(crate) capture: PostgresCapture,
    slot: String,
    pub(crate) database: Database,
}

impl Environment {
    pub(crate) async fn fresh<S: Server>(plugin: Plugin) -> Self {
        Self::new::<S>("", plugin, Publish::Least).await
    }

    /// With a table that was changed by these statements.
    pub(crate) async fn shaped<S: Server>(shape: &str) -> Self {
        Self::new::<S>(shape, Plugin::Pgoutput, Publish::Least).await
    }

    pub(crate) async fn publishing<S: Server>(publish: Publish) -> Self {
        Self::new::<S>("", Plugin::Pgoutput, publish).await
    }

    async fn new<S: Server>(shape: &str, plugin: Plugin, publish: Publish) -> Self {
        let database = Database::fresh::<S>().await;
        database.prepared().await;
        database.meddle(shape).await;
        let url = database.url.clone();
        Self::with(database, plugin, publish, CaptureConfig::SILENCE, &url).await
    }

    /// Capture from a prepared database, with the replication connection to `url`.
    pub(crate) async fn with(
        database: Database,
        plugin: Plugin,
        publish: Publish,
        silence: Duration,
        url: &str,
    ) -> Self {
        let records = Arc::new(database.records().await);
        let slot = format!("captured_{}", Uuid::new_v4().simple());
        let config = CaptureConfig {
            url: url.into(),
            publication: "captured_pub".to_owned(),
            publish,
            slot: slot.clone(),
            plugin,
            silence,
        };
        Self { capture: PostgresCapture::new(records, config), slot, database }
    }

    /// Opens the log; waits while the previous reader still holds the slot.
    pub(crate) async fn open(&self) -> Opened {
        loop {
            match self.capture.open().await {
                Ok(opened) => return opened,
                Err(fault) if fault.class == FaultClass::Busy => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    pub(crate) async fn leave(self) {
        let ended = format!(
            "DO $$ BEGIN LOOP BEGIN
                 PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{0}' AND active;
                 PERFORM pg_drop_replication_slot('{0}'); EXIT;
             EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01); END; END LOOP; END $$",
            self.slot
        );
        self.database.meddle(&ended).await;
    }
}

/// Waits for `count` transactions that touch rows; returns all that were received.
pub(crate) async fn touched(source: &mut dyn Source, count: usize) -> Vec<Captured> {
    let mut touched = Vec::new();
    while touched.len() < count {
        let next =
            tokio::time::timeout(Duration::from_secs(20), source.next()).await.expect("no transaction within 20 s");
        touched.extend(Some(next.unwrap()).filter(|captured| captured.truncated || !captured.rows.is_empty()));
    }
    touched
}

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

async fn strangers_write(environment: &Environment) {
    let row =
        |number| format!("INSERT INTO unified.chunks (id, content) VALUES ('{}', 'of another program')", id(number));
    for statements in [
        row(1),
        format!("{}; UPDATE unified.chunks SET content = 'again' WHERE id = '{}'", row(2), id(1)),
        // A merge of the service, then a transaction on another table.
        format!("SELECT pg_logical_emit_message(true, 'chunk_sync', '{}'); {}", id(3), row(3)),
        "CREATE TABLE unified.others (id int); INSERT INTO unified.others VALUES (1)".to_owned(),
        format!("UPDATE unified.chunks SET id = '{}' WHERE id = '{}'", id(4), id(2)),
        format!("DELETE FROM unified.chunks WHERE id = '{}'", id(1)),
        format!("TRUNCATE unified.chunks; {}", row(5)),
    ] {
        environment.database.meddle(&format!("BEGIN; {statements}; COMMIT")).await;
    }
}

async fn every_change_is_captured_and_repeated_until_confirmed<S: Server>(plugin: Plugin) {
    let environment = Environment::fresh::<S>(plugin).await;
    let Opened { mut source, positions, gap } = environment.open().await;
    assert_eq!(gap, None, "nothing was captured before");
    strangers_write(&environment).await;
    let captured = touched(&mut *source, 5).await;
    let rows: Vec<_> = captured.iter().map(|captured| captured.rows.clone()).collect();
    use Touch::{Deleted, Inserted, Updated};
    let expected = [
        vec![(id(1), Inserted)],
        vec![(id(2), Inserted), (id(1), Updated)],
        vec![(id(2), Deleted), (id(4), Inserted)],
        vec![(id(1), Deleted)],
        vec![(id(5), Inserted)],
    ];
    assert_eq!(rows, expected);
    assert!(captured[4].truncated && !captured[3].truncated);
    assert!(captured.is_sorted_by_key(|captured| captured.end), "the transactions are not in commit order");
    assert_eq!(
        environment.capture.open().await.map(|_| ()).unwrap_err().class,
        FaultClass::Busy,
        "a second reader was admitted"
    );
    // Unconfirmed transactions are captured again.
    let end = captured[1].end.unwrap();
    positions.note(end).await.unwrap();
    source.confirm(end);
    confirmed(&environment, end).await;
    drop(source);
    let Opened { mut source, gap, .. } = environment.open().await;
    assert_eq!(gap, None);
    assert_eq!(touched(&mut *source, 3).await, captured[2..]);
    drop(source);
    environment.leave().await;
}

/// Waits until the server has confirmed `position`.
async fn confirmed(environment: &Environment, position: Position) {
    let asked = format!(
        "SELECT confirmed_flush_lsn >= '{position}' FROM pg_replication_slots WHERE slot_name = '{}'",
        environment.slot
    );
    for _ in 0..1000 {
        if environment.database.one(&asked).await.get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server did not confirm {position} within 10 s");
}

async fn a_gap_is_reported_until_it_is_closed<S: Server>(plugin: Plugin) {
    let environment = Environment::fresh::<S>(plugin).await;
    drop(environment.open().await.source);
    let free = format!(
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_drop_replication_slot('{}'); EXIT;
         EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01); END; END LOOP; END $$",
        environment.slot
    );
    environment.database.meddle(&free).await;
    let opened = environment.open().await;
    assert_eq!(opened.gap, Some(Gap::Dropped));
    drop(opened);
    let opened = environment.open().await;
    assert_eq!(opened.gap, Some(Gap::Dropped), "the gap has not been closed yet");
    opened.positions.close_gap().await.unwrap();
    drop(opened);
    assert_eq!(environment.open().await.gap, None);
    environment.leave().await;
}

macro_rules! by {
    ($name:ident, $server:ty, $plugin:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_change_is_captured_and_repeated_until_confirmed() {
                super::every_change_is_captured_and_repeated_until_confirmed::<$server>($plugin).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_gap_is_reported_until_it_is_closed() {
                super::a_gap_is_reported_until_it_is_closed::<$server>($plugin).await;
            }
        }
    };
}

by!(pgoutput_15, Pg15, Plugin::Pgoutput);
by!(pgoutput_18, Pg18, Plugin::Pgoutput);
by!(wal2json_15, Pg15, Plugin::Wal2Json);

#[tokio::test]
async fn a_server_without_the_plugin_is_refused_with_the_remedy() {
    let environment = Environment::fresh::<Pg18>(Plugin::Wal2Json).await;
    let fault = environment.capture.open().await.map(|_| ()).unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    for word in ["wal2json", "postgresql-NN-wal2json", "output_plugin_libraries", "postgres.plugin"] {
        assert!(fault.message.contains(word), "no {word} in {fault}");
    }
}
