//! The test server for Qdrant as a process: it listens on loopback, has its own directory, and ends with the test.
//!
//! The program is built outside the workspace, because it compiles Qdrant's engine; [`PROGRAM`] holds its path.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The environment variable with the path of the program.
pub const PROGRAM: &str = "CHUNK_SYNC_TEST_QDRANT_SERVER";

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Qdrant version that it reports and behaves as.
    pub version: String,
    /// The API key that clients must send.
    pub api_key: Option<String>,
    /// The port; any free one if zero.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: "1.18.1".to_owned(), api_key: None, port: 0 }
    }
}

/// A running server. Dropping it kills its process; [`stop`](Self::stop) shuts it down in order.
pub struct QdrantServer {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl QdrantServer {
    /// Starts a server on the collections in `dir`, and returns once it serves requests.
    ///
    /// # Panics
    /// If the environment variable is not set, or the program does not start.
    pub async fn start(dir: &Path, options: &Options) -> Self {
        let mut command = Command::new(program());
        command.arg(dir).arg(options.port.to_string()).args(["--version", &options.version, "--controlled"]);
        command.envs(options.api_key.iter().map(|key| ("QDRANT__SERVICE__API_KEY", key)));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = piped.spawn().unwrap_or_else(|error| {
            panic!("cannot run {} of {PROGRAM}: {error}; build it: `cargo xtask qdrant-server`", program().display())
        });
        let commands = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let mut server = Self { child, commands, answers, url: String::new() };
        let first = server.answer().await;
        first
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("the first line of the server is `{first}`; expected `listening on ADDRESS`"))
            .clone_into(&mut server.url);
        server
    }

    /// Base URL: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds the next update that arrives, and none after it; the update takes effect after [`release`](Self::release).
    pub async fn hold_next_update(&mut self) {
        self.command("hold").await;
        assert_eq!(self.answer().await, "holding");
    }

    /// Returns once the update to be held has arrived; it has had no effect yet.
    pub async fn held(&mut self) {
        assert_eq!(self.answer().await, "held");
    }

    /// Releases the held update. It takes effect soon after.
    pub async fn release(&mut self) {
        self.command("release").await;
        while self.answer().await != "released" {}
    }

    /// Stops the server once the calls in progress are answered and everything is on disk.
    ///
    /// # Panics
    /// If the process fails.
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
        panic!("{PROGRAM} is not set; run `cargo xtask test live`, or set it as `cargo xtask qdrant-server` prints")
    })
}
