//! What clients that are idle, slow, too many or wrong can do to others.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Request;
use super::ports::World;
use super::{Extra, SECRET, Server, event};

/// More connections than the server has places.
const MANY: usize = 300;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what}: not within 30 s"))
}

#[tokio::test]
async fn idle_and_slow_connections_keep_no_request_out() {
    let server = Server::open().await;
    let mut idle = Vec::new();
    for n in 0..MANY {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        idle.push(stream);
    }
    for path in ["/healthz", "/v1/status", "/metrics", "/"] {
        assert_eq!(within(path, server.get(path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn while_every_connection_is_busy_health_is_answered_and_nothing_else() {
    let server = Server::guarded().await;
    let body = event().to_string();
    let mut busy = Vec::new();
    for _ in 0..MANY {
        let request = Request::events("application/json", body.clone()).token(SECRET).without_body();
        busy.push(request.begin(server.address).await);
    }
    // Each has sent a head only, so the server waits for its body, or the request for its turn.
    let refused = within("a refusal", async {
        loop {
            assert_eq!(within("health", server.get("/healthz")).await.status, 200);
            let answer = server.get("/metrics").await;
            if answer.status != 200 {
                return answer;
            }
        }
    });
    let refused = refused.await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "{}", refused.body);
    assert_eq!(within("health", server.get("/healthz")).await.status, 200);
    drop(busy);
    within("the places are free again", async { while server.get("/metrics").await.status != 200 {} }).await;
}

#[tokio::test]
async fn wrong_tokens_are_refused_without_comparing_after_some() {
    let server = Server::guarded().await;
    let with = |token: String| Request::get("/v1/status").token(&token).send(server.address);
    let mut statuses = Vec::new();
    for n in 0..30 {
        statuses.push(with(format!("a-wrong-token-of-{n}")).await.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses[15..].iter().all(|status| *status == 429), "{statuses:?}");
    let refused = with(SECRET.to_owned()).await;
    assert_eq!(refused.status, 429, "the right token is not compared either");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() <= 6);
    assert_eq!(server.get("/v1/status").await.status, 401, "a request without a token is no guess");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn wrong_tokens_do_not_lock_out_a_client_whose_token_was_accepted() {
    let server = Server::guarded().await;
    let with = |token: &'static str| Request::get("/v1/status").token(token).send(server.address);
    assert_eq!(with(SECRET).await.status, 200);
    for _ in 0..30 {
        let status = with("the-token-of-last-year").await.status;
        assert!([401, 429].contains(&status), "{status}");
    }
    assert_eq!(with(SECRET).await.status, 200);
}

#[tokio::test]
async fn requests_above_the_rate_are_refused_and_health_is_not() {
    let extra = Extra { requests_per_second: 1, ..Extra::default() };
    let server = Server::start_with(World::default(), TempDir::new().unwrap(), None, extra).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let of = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{end}\r\n");
    let requests =
        of("/nowhere", "").repeat(20) + &of("/healthz", "").repeat(20) + &of("/readyz", "Connection: close\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    within("the answers", stream.read_to_string(&mut answers)).await.unwrap();
    let count = |line: &str| answers.matches(line).count();
    assert!(count("HTTP/1.1 404 ") >= 2 && count("HTTP/1.1 429 ") >= 1, "{answers}");
    assert!(answers.to_lowercase().contains("retry-after: 1\r\n"), "{answers}");
    assert_eq!(count("{\"healthy\":true}"), 20, "{answers}");
}
