//! A Redis server of one test, which the test may kill.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts a server that has every acknowledged write on disk (`appendfsync always`).
    pub(crate) fn start(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let server = Self { child: spawn(port, &dir, &options), port, dir, options };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Restarts the server on its data.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.options);
        self.wait();
    }

    /// Starts the server again with further options. Returns at once: it may still load its data.
    pub(crate) fn start_loading(&mut self, options: &[&str]) {
        let options: Vec<_> =
            self.options.iter().cloned().chain(options.iter().map(|&option| option.to_owned())).collect();
        self.child = spawn(self.port, &self.dir, &options);
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let client = redis::Client::open(self.url()).unwrap();
        // Any answer, even `NOAUTH`, shows that the server runs and has loaded its data.
        let answers = || match client.get_connection() {
            Ok(mut connection) => match redis::cmd("PING").query::<String>(&mut connection) {
                Ok(_) => true,
                Err(error) => error.code() == Some("NOAUTH"),
            },
            Err(_) => false,
        };
        while !answers() {
            assert!(Instant::now() < deadline, "redis-server does not answer on port {}", self.port);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn spawn(port: u16, dir: &TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(dir.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("cannot start redis-server; install it (Debian: apt-get install redis-server)")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
