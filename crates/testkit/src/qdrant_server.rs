//! The test server for Qdrant as a process: started on loopback with a directory of its own, and ended with the test.
//!
//! The program is built apart from the workspace, because it compiles Qdrant's engine; [`PROGRAM`] names it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The variable with the path of the program.
pub const PROGRAM: &str = "CHUNK_SYNC_TEST_QDRANT_SERVER";

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version that it announces, and whose behaviour it has.
    pub version: String,
    /// The key that clients must send.
    pub api_key: Option<String>,
    /// The port; any free one if zero.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: "1.18.1".to_owned(), api_key: None, port: 0 }
    }
}

/// A running server. Dropped, its process is killed; [`stop`](Self::stop) ends it in order.
pub struct QdrantServer {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl QdrantServer {
    /// Starts a server on the collections below `dir`, and returns when it serves.
    ///
    /// # Panics
    /// Where the variable is not set, or the program does not start.
    pub async fn start(dir: &Path, options: &Options) -> Self {
        let mut command = Command::new(program());
        command.arg(dir).arg(options.port.to_string()).args(["--version", &options.version, "--controlled"]);
        command.envs(options.api_key.iter().map(|key| ("QDRANT__SERVICE__API_KEY", key)));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = piped.spawn().unwrap_or_else(|error| {
            panic!("cannot run {} of {PROGRAM}: {error}; `cargo xtask qdrant-server` builds it", program().display())
        });
        let commands = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let mut server = Self { child, commands, answers, url: String::new() };
        let first = server.answer().await;
        first
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("the server starts with `{first}`"))
            .clone_into(&mut server.url);
        server
    }

    /// Where it is reached: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds the next update that arrives, and none after it: it takes effect after [`release`](Self::release).
    pub async fn hold_next_update(&mut self) {
        self.command("hold").await;
        assert_eq!(self.answer().await, "holding");
    }

    /// Returns when the update that is to be held has arrived; it has had no effect.
    pub async fn held(&mut self) {
        assert_eq!(self.answer().await, "held");
    }

    /// Releases the update that is held. It takes effect soon after.
    pub async fn release(&mut self) {
        self.command("release").await;
        while self.answer().await != "released" {}
    }

    /// Stops when the calls under way are answered and everything is on disk.
    ///
    /// # Panics
    /// Where the process fails.
    pub async fn stop(mut self) {
        drop(self.commands);
        let status = self.child.wait().await.expect("the server's process can be waited for");
        assert!(status.success(), "the test server for Qdrant ended with {status}");
    }

    async fn command(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.expect("the server takes commands");
    }

    async fn answer(&mut self) -> String {
        self.answers.next_line().await.expect("the server's output can be read").expect("the server has ended")
    }
}

fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| {
        panic!("{PROGRAM} is not set: `cargo xtask test live` sets it; or set it to what `cargo xtask qdrant-server` prints")
    })
}
