//! A running service on embedded stores, with a client for its HTTP API.
#![allow(dead_code, reason = "each test that includes it uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_model::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "the-token-of-this-test";

/// A running service with its directory; it is killed when it is dropped.
pub(crate) struct Service {
    process: Child,
    address: String,
    /// Taken when another service continues with it.
    dir: Option<TempDir>,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new().unwrap(), "")
    }

    pub(crate) fn start_in(dir: TempDir, more: &str) -> Self {
        Self::start_at(dir, "127.0.0.1:0", more)
    }

    fn start_at(dir: TempDir, listen: &str, more: &str) -> Self {
        let config = format!(
            "embedded.dir = 'data'\nhttp.listen = '{listen}'\nhttp.token = '{TOKEN}'\nscrub.enabled = false\n\
             worker.hold = false\nhttp.requests_per_second = 0\n{more}"
        );
        std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
        command.current_dir(dir.path()).arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split("status page on http://").nth(1)?.split('/').next()?.to_owned())
        });
        // The rest is read, so that the service never waits for this process.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.expect("the service ended before it named its address"), dir: Some(dir) }
    }

    /// Ends the service, and starts another one in its directory.
    pub(crate) fn restart(mut self, more: &str) -> Self {
        let dir = self.dir.take().unwrap();
        drop(self);
        Self::start_in(dir, more)
    }

    /// Kills the service. Its directory stays.
    pub(crate) fn kill(mut self) -> Killed {
        Killed(self.dir.take().unwrap())
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    fn data(&self) -> PathBuf {
        self.dir.as_ref().unwrap().path().join("data")
    }

    /// Adds an entry to the bus, as another client of it could.
    pub(crate) fn add(&self, fields: Vec<(Vec<u8>, Vec<u8>)>) {
        let stores = Embedded::open_beside(&self.data(), Arc::new(Limits::default()), MAX_BACKLOG).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(stores.bus.add(fields)).unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.request("GET", path, Some(TOKEN), "");
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path} {status}: {error}: {body}")))
    }

    pub(crate) fn found(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.request("POST", path, Some(TOKEN), body);
        (status, serde_json::from_str(&answer).unwrap())
    }

    /// Publishes events, and waits until the service has completed them.
    pub(crate) fn publish(&self, events: &Value) {
        let before = self.found("/v1/status")["done"]["settled"].as_u64().unwrap();
        let (status, answer) = self.post("/v1/events", &events.to_string());
        assert_eq!(status, 202, "{answer}");
        let count = events.as_array().unwrap().len() as u64;
        until("the events are completed", || {
            self.found("/v1/status")["done"]["settled"].as_u64().unwrap() >= before + count
        });
    }

    pub(crate) fn file(&self) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.data().join("chunk-sync.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        file
    }
}

/// The directory of a service that was killed.
pub(crate) struct Killed(TempDir);

impl Killed {
    /// Starts a service in the directory, on this address.
    pub(crate) fn start_again(self, listen: &str) -> Service {
        Service::start_at(self.0, listen, "")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn event(source: &str, chunk: &Value, minute: u32) -> Value {
    let timestamp = format!("2026-11-01T10:{minute:02}:00Z");
    let mut chunk = chunk.clone();
    chunk["metadata"]["updated_at"] = timestamp.as_str().into();
    json!({
        "event_id": Uuid::new_v4(), "type": "update", "source": source, "targets": ["postgres", "qdrant", "neo4j"],
        "timestamp": timestamp, "chunk": chunk,
    })
}

pub(crate) fn chunk() -> Value {
    chunk_sync_samples::samples().remove(0)
}
