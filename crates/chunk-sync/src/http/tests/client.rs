//! A minimal HTTP/1.1 client that sends exactly the bytes that a test specifies.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A request; the body may be empty.
#[derive(Clone)]
pub(super) struct Request {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(method: &str, target: &str) -> Self {
        Self { line: format!("{method} {target} HTTP/1.1"), headers: vec!["Host: localhost".into()], body: Vec::new() }
    }

    pub(super) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(super) fn events(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = format!("Content-Length: {}", body.len());
        Self { body, ..Self::new("POST", "/v1/events").header(&format!("Content-Type: {kind}")).header(&length) }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::events("application/json", body.to_string())
    }

    pub(super) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|line| !line.starts_with(name));
        self
    }

    /// The head only: the server waits for the body.
    pub(super) fn without_body(mut self) -> Self {
        self.body.clear();
        self
    }

    pub(super) fn token(self, token: &str) -> Self {
        self.header(&format!("Authorization: Bearer {token}"))
    }

    /// Sends head and body, and returns the open connection.
    pub(super) async fn begin(self, to: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!("{}\r\n{}\r\n\r\n", self.line, self.headers.join("\r\n"));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&self.body).await.unwrap();
        stream
    }

    pub(super) async fn send(self, to: SocketAddr) -> Answer {
        answer(self.header("Connection: close").begin(to).await).await
    }
}

/// Reads until the server closes the connection, and parses the response.
pub(super) async fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Answer::parse(&bytes)
}

/// Appends to `read` until it contains `wanted`. Panics if the server closes the connection before.
pub(super) async fn until(stream: &mut TcpStream, read: &mut String, wanted: &str) {
    while !read.contains(wanted) {
        let mut part = [0; 4096];
        let n = stream.read(&mut part).await.unwrap();
        assert!(n > 0, "the server closed the connection before {wanted:?} arrived: {read}");
        read.push_str(std::str::from_utf8(&part[..n]).unwrap());
    }
}
