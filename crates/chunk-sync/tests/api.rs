//! The HTTP API of the running program on embedded stores: what the status page shows, and what the operator does there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "api/service.rs"]
mod service;

use std::collections::BTreeSet;

use serde_json::json;
use tempfile::TempDir;

use service::{Service, TOKEN, chunk, event, until};

#[test]
fn a_chunk_is_shown_as_each_store_holds_it_and_differences_are_marked() {
    let service = Service::start();
    let chunk = chunk();
    let id = chunk["id"].as_str().unwrap();
    let path = format!("/v1/chunks/{id}");
    assert_eq!(service.get(&path).0, 404);
    service.publish(&json!([event("claude", &chunk, 1)]));
    let shown = service.found(&path);
    assert_eq!((&shown["consistent"], &shown["lives"]), (&true.into(), &true.into()), "{shown}");
    for store in ["postgres", "qdrant", "neo4j"] {
        assert_eq!(shown["stores"][store]["present"], true, "{store}: {shown}");
        assert_eq!(shown["stores"][store]["sync_version"], shown["sync_version"], "{store}");
    }
    assert_eq!(shown["stores"]["qdrant"]["fields"]["content"], chunk["content"]);
    assert_eq!(shown["stores"]["qdrant"]["fields"]["dense_gte"]["numbers"], 768);
    let file = service.file();
    file.execute("UPDATE points SET payload = json_set(payload, '$.content', 'other')", []).unwrap();
    file.execute("DELETE FROM graph_mentions", []).unwrap();
    file.execute("DELETE FROM graph_relations", []).unwrap();
    file.execute("DELETE FROM graph_chunks", []).unwrap();
    let shown = service.found(&path);
    let stores = &shown["stores"];
    assert_eq!(shown["consistent"], false);
    assert_eq!(
        (&stores["qdrant"]["problem"], &stores["qdrant"]["differs"]),
        (&"different".into(), &json!(["content"]))
    );
    assert_eq!(stores["qdrant"]["expected"]["content"], chunk["content"]);
    assert_eq!(stores["qdrant"]["fields"]["content"], "other");
    assert_eq!((&stores["neo4j"]["problem"], &stores["neo4j"]["present"]), (&"missing".into(), &false.into()));
}

#[test]
fn a_conflict_is_listed_with_its_sides() {
    let service = Service::start();
    let (first, mut second, mut third) = (chunk(), chunk(), chunk());
    second["content"] = "a content by claude".into();
    third["content"] = "a content by cognee".into();
    service.publish(&json!([event("claude", &first, 1), event("cognee", &first, 2)]));
    service.publish(&json!([event("claude", &second, 3), event("cognee", &third, 4)]));
    let found = service.found("/v1/conflicts?limit=10");
    let conflict = found["conflicts"].as_array().unwrap().iter().find(|noted| noted["part"] == "content").unwrap();
    assert_eq!(conflict["source"]["value"], "a content by cognee");
    assert_eq!(conflict["target"]["value"], "a content by claude");
    assert_eq!(conflict["base"]["value"], first["content"]);
    assert_eq!(service.found("/v1/conflicts?open=true")["conflicts"], json!([]));
    let history = service.found("/v1/history");
    assert!(history["series"]["completed"].as_array().unwrap().len() == history["at"].as_array().unwrap().len());
    assert!(history["lag_seconds"]["qdrant"]["p95"].is_number(), "{history}");
}

#[test]
fn a_dead_letter_is_read_retried_and_dropped_with_the_token_only() {
    let service = Service::start();
    let planted = "no\u{1b}[2J colour\u{9b}\u{202e}";
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    service.add(vec![field("type", planted), field("chunk", "{}")]);
    until("the entry is dead-lettered", || service.found("/v1/dead")["total"] == 1);
    let listed = service.found("/v1/dead");
    let id = listed["dead"][0]["id"].as_str().unwrap();
    let whole = service.found(&format!("/v1/dead/{id}"));
    assert_eq!(whole["fields"][0], json!({"name": "type", "value": planted}), "{whole}");
    let (_, raw) = service.request("GET", &format!("/v1/dead/{id}"), Some(TOKEN), "");
    assert!(!raw.contains(|c: char| c.is_control() || c == '\u{202e}'), "{raw:?}");
    let (status, answer) = service.post(&format!("/v1/dead/{id}/retry"), "");
    assert!(status == 422 && answer["field"].is_string(), "{status} {answer}");
    assert_eq!(service.request("POST", &format!("/v1/dead/{id}/drop"), None, "").0, 401);
    assert_eq!(service.post(&format!("/v1/dead/{id}/drop"), ""), (200, json!({"id": id, "dropped": true})));
    assert_eq!(service.post(&format!("/v1/dead/{id}/drop"), "").0, 404);
    assert_eq!(service.found("/v1/dead")["total"], 0);
}

#[test]
fn a_dead_letter_whose_cause_is_gone_is_published_again() {
    let service = Service::start_in(TempDir::new().unwrap(), "limits.content_min_chars = 10000\n");
    let good = event("claude", &chunk(), 1);
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = good.as_object().unwrap().iter();
    service.add(fields.map(|(name, value)| (name.clone().into_bytes(), text(value).into_bytes())).collect());
    until("the entry is dead-lettered", || service.found("/v1/dead")["total"] == 1);
    let service = service.restart("");
    let id = service.found("/v1/dead")["dead"][0]["id"].as_str().unwrap().to_owned();
    let (status, answer) = service.post(&format!("/v1/dead/{id}/retry"), "");
    assert_eq!((status, &answer["event_id"]), (200, &good["event_id"]), "{answer}");
    let path = format!("/v1/chunks/{}", good["chunk"]["id"].as_str().unwrap());
    until("the chunk is in every store", || service.get(&path).1["consistent"] == true);
    assert_eq!(service.found("/v1/dead")["total"], 0);
}

#[test]
fn invalid_parameters_are_refused_with_their_name() {
    let service = Service::start();
    for (path, field) in [
        ("/v1/chunks/none", "id"),
        ("/v1/dead/none", "id"),
        ("/v1/dead?limit=0", "limit"),
        ("/v1/dead?limit=101", "limit"),
        ("/v1/dead?after=x", "after"),
        ("/v1/conflicts?open=maybe", "open"),
        ("/v1/conflicts?chunk=x", "chunk"),
        ("/v1/conflicts?limit=1&limit=2", "limit"),
        ("/v1/conflicts?other=1", "other"),
        ("/v1/history?window=year", "window"),
    ] {
        let (status, answer) = service.get(path);
        assert_eq!((status, &answer["field"]), (400, &field.into()), "{path}: {answer}");
    }
}

#[test]
fn every_route_is_described_and_every_described_route_answers() {
    let service = Service::start();
    let document = service.found("/openapi.json");
    let described: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let source = include_str!("../src/http.rs");
    let routes: BTreeSet<&str> =
        source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(described, routes);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete =
            path.replace("{id}", if path.contains("dead") { "1-1" } else { "00000000-0000-4000-8000-000000000000" });
        for method in ["GET", "POST", "DELETE"] {
            if path == "/v1/events/live" && method == "GET" {
                continue;
            }
            let (status, body) = service.request(method, &concrete, Some(TOKEN), "");
            let described = &operations[method.to_lowercase()];
            if described.is_object() {
                let response = &described["responses"][status.to_string()];
                assert!(response.is_object(), "{method} {path}: {status} {body}");
            } else {
                assert_eq!(status, 405, "{method} {path}: {body}");
            }
        }
    }
    for (path, open) in
        [("/", true), ("/metrics", true), ("/healthz", true), ("/v1/status", false), ("/v1/history", false)]
    {
        assert_eq!(service.request("GET", path, None, "").0 == 200, open, "{path}");
    }
    for path in ["/v1/conflicts", "/v1/dead", "/v1/dead/1-1", "/v1/chunks/00000000-0000-4000-8000-000000000000"] {
        assert_eq!(service.request("GET", path, None, "").0, 401, "{path}");
    }
}
