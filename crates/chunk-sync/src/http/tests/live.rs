//! The event stream.

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use chunk_sync_model::{Event, Limits};

use super::client::{Request, until};
use super::{SECRET, Server, event};

async fn listen(server: &Server) -> (TcpStream, String) {
    let mut stream = Request::get("/v1/events/live").token(SECRET).begin(server.address).await;
    let mut read = String::new();
    until(&mut stream, &mut read, "\r\n\r\n").await;
    assert!(read.starts_with("HTTP/1.1 200 OK") && read.contains("content-type: text/event-stream"), "{read}");
    (stream, read)
}

fn data(read: &str) -> Value {
    let line = read.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(line).unwrap()
}

#[tokio::test]
async fn every_listener_receives_published_events_without_vectors() {
    let server = Server::guarded().await;
    let mut listeners = [listen(&server).await, listen(&server).await];
    let event = event();
    assert_eq!(server.post(Request::json(&event)).await.status, 202);
    for (stream, read) in &mut listeners {
        until(stream, read, "\n\n\r\n").await;
        assert!(read.contains("event: sync:event\n"), "{read}");
        assert!(read.contains(&format!("id: {}\n", event["event_id"].as_str().unwrap())), "{read}");
        let received = data(read);
        assert_eq!(received["chunk"]["content"], event["chunk"]["content"]);
        assert_eq!(received["targets"], event["targets"]);
        assert_eq!(received["chunk"]["embeddings"]["dense"]["model"], "gte");
        for absent in ["\"vector\"", "vector_b64", "\"indices\"", "\"values\""] {
            assert!(!read.contains(absent), "{absent}");
        }
    }
}

#[tokio::test]
async fn a_lagging_listener_receives_the_number_of_missed_events_and_then_the_next_ones() {
    let server = Server::guarded().await;
    let (mut stream, mut read) = listen(&server).await;
    let mut gone = event();
    (gone["type"], gone["chunk"]) = ("delete".into(), serde_json::json!({"id": uuid::Uuid::nil()}));
    let mut event = Event::from_json(&gone.to_string(), &Limits::default()).unwrap();
    let mut events = Vec::new();
    for _ in 0..1_500 {
        event.event_id = uuid::Uuid::new_v4();
        events.push(event.clone());
    }
    // The runtime has one thread, so the listener does not run between them.
    server.publisher.publish(events).await.unwrap();
    until(&mut stream, &mut read, &format!("id: {}\n", event.event_id)).await;
    assert!(read.contains("event: sync:missed\n"), "{}", &read[..400]);
    assert_eq!(data(&read), serde_json::json!({"missed": 1_500 - 1_024}));
}

#[tokio::test]
async fn the_shutdown_ends_the_streams_of_listeners() {
    let server = Server::guarded().await;
    let (mut stream, _) = listen(&server).await;
    server.end.send(()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_listener_beyond_the_maximum_is_refused() {
    let server = Server::guarded().await;
    let mut listeners = Vec::new();
    for _ in 0..super::super::live::AT_ONCE {
        listeners.push(listen(&server).await);
    }
    let refused = Request::get("/v1/events/live").token(SECRET).send(server.address).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
}
