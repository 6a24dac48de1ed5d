//! `POST /v1/events`: accepted and refused requests, and their responses.

use chunk_sync_engine::ports::FaultClass;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::client::{Request, answer};
use super::{SECRET, Server, chunk, event};
use crate::http::refusal::{MAX_BYTES, MAX_EVENTS};

fn with(mut event: Value, pointer: &str, value: Value) -> Value {
    *event.pointer_mut(pointer).unwrap() = value;
    event
}

#[tokio::test]
async fn without_a_configured_token_publishing_is_refused_and_the_error_names_the_setting() {
    let server = Server::open().await;
    for request in [Request::json(&event()), Request::json(&event()).token(SECRET)] {
        let answer = request.send(server.address).await;
        assert_eq!(answer.status, 403);
        assert!(answer.json()["error"].as_str().unwrap().contains("CHUNK_SYNC__HTTP__TOKEN"), "{}", answer.body);
    }
}

#[tokio::test]
async fn only_the_exact_token_is_accepted() {
    let server = Server::guarded().await;
    let longer = format!("{SECRET}x");
    let wrong = ["", "x", &SECRET[1..], &SECRET[..SECRET.len() - 1], &longer, &SECRET.to_uppercase()];
    for header in wrong.map(|token| format!("Authorization: Bearer {token}")) {
        let answer = Request::json(&event()).header(&header).send(server.address).await;
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{header}");
    }
    for header in [format!("Authorization: Basic {SECRET}"), format!("Authorization: {SECRET}")] {
        assert_eq!(Request::json(&event()).header(&header).send(server.address).await.status, 401, "{header}");
    }
    assert_eq!(Request::json(&event()).send(server.address).await.status, 401);
    let spelt = Request::json(&event()).header(&format!("Authorization: bEARER {SECRET}"));
    assert_eq!(spelt.send(server.address).await.status, 202);
}

#[tokio::test]
async fn one_event_an_array_lines_and_bare_chunks_are_accepted() {
    let server = Server::guarded().await;
    let (one, two) = (event(), event());
    let lines = format!("{one}\r\n\n   \n{two}");
    for (request, ids) in [
        (Request::json(&one), vec![&one["event_id"]]),
        (Request::json(&json!([one, two])), vec![&one["event_id"], &two["event_id"]]),
        (Request::events("application/x-ndjson", lines), vec![&one["event_id"], &two["event_id"]]),
        (Request::events("Application/JSON; charset=utf-8", format!(" \n{one}\n")), vec![&one["event_id"]]),
    ] {
        let answer = server.post(request).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let accepted: Vec<Value> = ids
            .iter()
            .zip(1..)
            .map(|(id, n)| json!({"event_id": id, "entry_id": format!("1700000000000-{n}")}))
            .collect();
        let mut body = answer.json();
        for event in body["accepted"].as_array_mut().unwrap() {
            // Present if the event was merged already, which an event that is sent again may be by now.
            event.as_object_mut().unwrap().remove("repeated");
        }
        assert_eq!(body, json!({"accepted": accepted, "rejected": []}));
    }
    let bare = server.post(Request::json(&chunk())).await;
    assert_eq!(bare.status, 202);
    let again = server.post(Request::json(&chunk())).await;
    assert_eq!(bare.json()["accepted"][0]["event_id"], again.json()["accepted"][0]["event_id"]);
    server.service.until_idle().await.unwrap();
    assert_eq!(server.service.health().done.completed, 8);
}

#[tokio::test]
async fn invalid_events_are_rejected_by_index_and_field_and_the_others_are_accepted() {
    let server = Server::guarded().await;
    let good = event();
    // Only capture publishes as `postgres`.
    let mut forged = event();
    forged["writer"] = json!("postgres");
    let bad = json!([
        with(event(), "/chunk/content", json!("short")),
        good,
        5,
        [good],
        with(event(), "/targets", json!(["redis"])),
        with(event(), "/timestamp", json!("2999-01-01T00:00:00Z")),
        with(event(), "/chunk/embeddings/dense/vector", json!([1.0])),
        {},
        forged,
    ]);
    let answer = server.post(Request::json(&bad)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["accepted"][0]["event_id"], good["event_id"]);
    let rejected: Vec<_> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["index"].as_u64().unwrap(), r["field"].as_str().unwrap()))
        .collect();
    let expected = [
        (0, "chunk.content"),
        (2, "event"),
        (3, "event"),
        (4, "targets[0]"),
        (5, "timestamp"),
        (6, "chunk.embeddings.dense.vector"),
        (7, "chunk.id"),
        (8, "writer"),
    ];
    assert_eq!(rejected, expected, "{answer}");
    let lines = format!("{good}\n\n{{\"broken\": \n{good}\nnull");
    let answer = server.post(Request::events("application/x-ndjson", lines)).await.json();
    assert_eq!(answer["accepted"].as_array().unwrap().len(), 2);
    assert_eq!((&answer["rejected"][0]["index"], &answer["rejected"][1]["index"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn if_no_event_is_accepted_the_response_is_400_with_every_reason() {
    let server = Server::guarded().await;
    let short = with(event(), "/chunk/content", json!("short"));
    for body in [&short, &json!([short, short]), &json!(7), &json!(null)] {
        let answer = server.post(Request::json(body)).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["accepted"], json!([]));
        assert_eq!(answer.json()["rejected"][0]["index"], 0);
    }
    for (kind, body) in [
        ("application/json", ""),
        ("application/json", " \n"),
        ("application/json", "[]"),
        ("application/x-ndjson", "\n \n"),
    ] {
        let answer = server.post(Request::events(kind, body)).await;
        assert_eq!(answer.status, 400, "{body:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("the body contains no event; "), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_with_line_and_column() {
    let server = Server::guarded().await;
    for (body, line, column) in [("{\"a\": 1,\n  oops}", 2, 3), ("[{}, {}", 1, 7), ("{} {}", 1, 4), ("[1,]", 1, 4)] {
        let answer = server.post(Request::events("application/json", body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(
            (&answer.json()["line"], &answer.json()["column"]),
            (&json!(line), &json!(column)),
            "{}",
            answer.body
        );
    }
    let answer = server.post(Request::events("application/json", b"{\"a\": \"\xff\"}".as_slice())).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().unwrap().contains("byte 7"), "{}", answer.body);
}

#[tokio::test]
async fn other_content_types_and_encodings_are_refused() {
    let server = Server::guarded().await;
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""]
    {
        assert_eq!(server.post(Request::events(kind, event().to_string())).await.status, 415, "{kind}");
    }
    let without = Request::json(&event()).without("Content-Type");
    assert_eq!(server.post(without).await.status, 415);
    let packed = Request::json(&event()).header("Content-Encoding: gzip");
    assert_eq!(server.post(packed).await.status, 415);
}

#[tokio::test]
async fn more_than_a_thousand_events_or_sixteen_mebibytes_are_refused() {
    let server = Server::guarded().await;
    let many = |n: usize| Request::events("application/x-ndjson", "{}\n".repeat(n));
    assert_eq!(server.post(many(MAX_EVENTS)).await.status, 400);
    assert_eq!(server.post(many(MAX_EVENTS + 1)).await.status, 413);
    let listed = |n: usize| Request::events("application/json", format!("[{}{{}}]", "{},".repeat(n - 1)));
    assert_eq!(server.post(listed(MAX_EVENTS)).await.status, 400);
    assert_eq!(server.post(listed(MAX_EVENTS + 1)).await.status, 413);

    let spaces = |n: usize| Request::events("application/json", " ".repeat(n));
    assert_eq!(server.post(spaces(MAX_BYTES)).await.status, 400);
    assert_eq!(server.post(spaces(MAX_BYTES + 1)).await.status, 413);
    let unannounced =
        Request::events("application/json", "").without("Content-Length").header("Transfer-Encoding: chunked");
    let mut stream = unannounced.token(SECRET).header("Connection: close").begin(server.address).await;
    let part = [b"100000\r\n".as_slice(), &[b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..=MAX_BYTES / 0x10_0000 {
        stream.write_all(&part).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer(stream).await.status, 413);
}

#[tokio::test]
async fn a_full_bus_yields_429_with_retry_after_and_any_other_fault_503() {
    let server = Server::guarded().await;
    server.world.faults().publish = Some(FaultClass::Busy);
    let busy = server.post(Request::json(&event())).await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("2")));
    for class in FaultClass::ALL.into_iter().filter(|class| *class != FaultClass::Busy) {
        server.world.faults().publish = Some(class);
        let failed = server.post(Request::json(&event())).await;
        assert_eq!(failed.status, 503, "{class:?}");
        assert!(failed.json()["error"].as_str().unwrap().contains("injected by the test"));
    }
}

#[tokio::test]
async fn an_incomplete_body_publishes_nothing() {
    let server = Server::guarded().await;
    let text = event().to_string();
    let half = Request::events("application/json", &text.as_bytes()[..text.len() / 2])
        .without("Content-Length")
        .header(&format!("Content-Length: {}", text.len()));
    let mut stream = half.token(SECRET).begin(server.address).await;
    stream.shutdown().await.unwrap();
    let broken = answer(stream).await;
    assert_eq!(broken.status, 400, "{}", broken.body);
    server.service.until_idle().await.unwrap();
    assert_eq!(server.service.health().done.completed, 0);
}
