//! A process of the program, and the signals that a test sends to it.

use std::io::Read;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Timeout of every wait.
const LIMIT: Duration = Duration::from_secs(60);

/// A process of the program; dropping it kills the process.
pub(crate) struct Process(pub(super) Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the process had already ended");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends the process with SIGTERM. Returns its summary.
    pub(crate) fn terminate(mut self) -> Value {
        self.signal("-TERM");
        let mut summary = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the process ended with {status}");
        serde_json::from_str(&summary).unwrap()
    }

    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Waits until the process is stopped (state `T`), by any signal.
    pub(crate) async fn stands_still(&self) {
        let began = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
            if stat.rsplit(") ").next().unwrap().starts_with('T') {
                return;
            }
            assert!(began.elapsed() < LIMIT, "the process is not stopped after {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the process has ended without a signal of the test.
    pub(crate) async fn crashed(mut self) {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LIMIT, "the process did not end within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
