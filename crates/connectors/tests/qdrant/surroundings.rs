//! Servers as other people run them: behind proxies, with limits, with other programs in the same collection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore, examine};
use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, FaultClass, Level, Marked, Projection, Write};
use chunk_sync_testkit::scan::scanned;
use chunk_sync_testkit::states::{changed, delete, states, write};
use hyper::StatusCode;
use prost::Message;
use qdrant_client::qdrant::points_update_operation::Operation;
use qdrant_client::qdrant::{
    CollectionConfig, CountPoints, Filter, GetCollectionInfoResponse, PointsSelector, ScrollPoints, StrictModeConfig,
    UpdateBatchPoints, condition::ConditionOneOf, points_selector::PointsSelectorOneOf,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;

use crate::fixture::{Vectors, written};
use crate::middlebox::{Act, Rule, before, decode};

const UPDATE: &str = "/qdrant.Points/UpdateBatch";
const INFO: &str = "/qdrant.Collections/Get";

/// A store whose calls pass the proxy.
async fn behind(vectors: &Vectors, rule: impl Rule) -> (QdrantConfig, QdrantStore) {
    let config = QdrantConfig { url: before(&vectors.config.url, rule).await, ..vectors.config.clone() };
    let store = QdrantStore::new(&config).unwrap();
    (config, store)
}

fn fault(answer: &Applied) -> (FaultClass, String) {
    let Applied::Failed(fault) = answer else { panic!("{answer:?}") };
    (fault.class, fault.to_string())
}

/// Different chunks, each with about so many bytes of content.
fn long(count: usize, bytes: usize) -> Vec<Write> {
    let contents = states(count).into_iter().enumerate();
    contents.map(|(i, state)| write(&changed(&state, &format!("{i} {}", "x".repeat(bytes))), 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_port_is_named_with_the_port_to_write() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let config = QdrantConfig::new(format!("http://127.0.0.1:{port}"), Arc::default());
    let store = QdrantStore::new(&config).unwrap();
    let faults =
        [store.check().await.unwrap_err(), store.marks().await.unwrap_err(), store.prepare().await.unwrap_err()];
    for fault in faults {
        assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
        assert!(
            fault.message.contains("not the gRPC port") && fault.message.contains("http://127.0.0.1:6334"),
            "{fault}"
        );
    }
    let found = examine(&config).await;
    let said = found.iter().find(|finding| finding.level == Level::Failed).unwrap();
    assert!(said.text.contains("answers HTTP/1"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_limits_the_body_gets_smaller_requests_and_the_chunk_above_its_limit_fails_alone() {
    const LIMIT: usize = 60_000;
    let vectors = Vectors::of("1.18.1").await;
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let (_, store) = behind(&vectors, move |path: &str, message: &[u8]| match (path, message.len()) {
        (UPDATE, LIMIT..) => {
            counted.fetch_add(1, Ordering::Relaxed);
            Act::Http(StatusCode::PAYLOAD_TOO_LARGE)
        }
        _ => Act::Pass,
    })
    .await;
    let mut writes = long(40, 4_000);
    writes[17] = write(&changed(&states(18)[17], &"y".repeat(LIMIT)), 1);
    let answers = apply_divided(&store, &writes, || true).await;
    for (i, answer) in answers.iter().enumerate().filter(|(i, _)| *i != 17) {
        assert!(matches!(answer, Applied::Written), "{i}: {answer:?}");
    }
    let (class, text) = fault(&answers[17]);
    assert_eq!(class, FaultClass::Rejected, "{text}");
    assert!(text.contains("413") && text.contains("client_max_body_size"), "{text}");
    // The limit is learnt: the next batch meets it no more.
    let learnt = refused.load(Ordering::Relaxed);
    let again: Vec<_> = long(40, 4_000).into_iter().map(|write| Write { version: version(2), ..write }).collect();
    assert!(store.apply(&again).await.iter().all(|answer| matches!(answer, Applied::Written)));
    assert_eq!(refused.load(Ordering::Relaxed), learnt);
}

fn version(number: u64) -> chunk_sync_model::SyncVersion {
    chunk_sync_model::SyncVersion::new(number)
}

/// Adds a strict mode to the description of the collection.
fn described(strict: StrictModeConfig) -> Act {
    Act::Change(Box::new(move |message| {
        let mut answer: GetCollectionInfoResponse = decode(message);
        let config = &mut answer.result.as_mut().unwrap().config;
        config.get_or_insert_with(CollectionConfig::default).strict_mode_config = Some(strict);
        answer.encode_to_vec()
    }))
}

/// The conditions of a filter, as the server counts them.
fn conditions(filter: &Filter) -> u64 {
    let all = filter.must.iter().chain(&filter.must_not).chain(&filter.should);
    all.map(|condition| match &condition.condition_one_of {
        Some(ConditionOneOf::Filter(filter)) => conditions(filter),
        _ => 1,
    })
    .sum()
}

/// The most points and the most conditions of an operation of the request.
fn sizes(request: &UpdateBatchPoints) -> (u64, u64) {
    let selected = |selector: &Option<PointsSelector>| match selector
        .as_ref()
        .and_then(|selector| selector.points_selector_one_of.as_ref())
        .unwrap()
    {
        PointsSelectorOneOf::Filter(filter) => conditions(filter),
        PointsSelectorOneOf::Points(_) => 0,
    };
    let operations = request.operations.iter().map(|operation| match operation.operation.as_ref().unwrap() {
        Operation::Upsert(list) => (list.points.len() as u64, list.update_filter.as_ref().map_or(0, conditions)),
        Operation::DeletePoints(delete) => (0, selected(&delete.points)),
        Operation::OverwritePayload(payload) => (0, selected(&payload.points_selector)),
        other => panic!("{other:?}"),
    });
    operations.fold((0, 0), |(points, conditions), (p, c)| (points.max(p), conditions.max(c)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_stay_within_the_limits_of_the_strict_mode() {
    let vectors = Vectors::of("1.18.1").await;
    let strict = StrictModeConfig {
        enabled: Some(true),
        upsert_max_batchsize: Some(20),
        filter_max_conditions: Some(33),
        max_query_limit: Some(30),
        search_allow_exact: Some(false),
        ..StrictModeConfig::default()
    };
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let refuse = move |message: &str| {
        counted.fetch_add(1, Ordering::Relaxed);
        Act::Status(Code::InvalidArgument, format!("Bad request: {message}"), None)
    };
    let (_, store) = behind(&vectors, move |path: &str, message: &[u8]| match path {
        INFO => described(strict.clone()),
        UPDATE => match sizes(&decode(message)) {
            (21.., _) => refuse("Limit exceeded 21 > 20 for \"upsert limit\""),
            (_, 34..) => refuse("Filter condition limit reached (34 > 33)"),
            _ => Act::Pass,
        },
        "/qdrant.Points/Scroll" if decode::<ScrollPoints>(message).limit.unwrap_or(10) > 30 => {
            refuse("Limit exceeded 31 > 30 for \"limit\"")
        }
        "/qdrant.Points/Count" if decode::<CountPoints>(message).exact != Some(false) => {
            refuse("Exact search disabled!")
        }
        _ => Act::Pass,
    })
    .await;
    let states = states(100);
    let writes: Vec<_> = states.iter().map(|state| write(state, 1)).collect();
    written(&store, &writes).await;
    assert_eq!(scanned(&store).await.len(), 100);
    assert_eq!(store.counts().await.unwrap().chunks, 100);
    let deletes: Vec<_> = states.iter().map(|state| delete(state.chunk.id, 2)).collect();
    written(&store, &deletes).await;
    assert_eq!(refused.load(Ordering::Relaxed), 0, "every request was within the limits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_lowered_meanwhile_divide_the_requests_and_reject_no_chunk() {
    for code in [Code::InvalidArgument, Code::PermissionDenied] {
        let vectors = Vectors::of("1.18.1").await;
        let (_, store) = behind(&vectors, move |path: &str, message: &[u8]| match path {
            UPDATE if sizes(&decode(message)).0 > 10 => {
                Act::Status(code, "Limit exceeded 11 > 10 for \"upsert limit\"".to_owned(), None)
            }
            _ => Act::Pass,
        })
        .await;
        let writes: Vec<_> = states(50).iter().map(|state| write(state, 1)).collect();
        let [Applied::Failed(fault), ..] = &store.apply(&writes).await[..] else { panic!("above the limit") };
        assert!(fault.divisible && fault.class == FaultClass::Misconfigured, "{fault:?}");
        let answers = apply_divided(&store, &writes, || true).await;
        assert!(answers.iter().all(|answer| matches!(answer, Applied::Written)), "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_collection_rejects_no_chunk_and_names_the_limit() {
    let vectors = Vectors::of("1.18.1").await;
    let full = |path: &str, _: &[u8]| match path {
        UPDATE => Act::Status(
            Code::InvalidArgument,
            "Bad request: Max vector storage size limit of 1MB reached!".to_owned(),
            None,
        ),
        _ => Act::Pass,
    };
    let (_, store) = behind(&vectors, full).await;
    let (class, text) = fault(&store.apply(&[write(&states(1)[0], 1)]).await[0]);
    assert_eq!(class, FaultClass::Misconfigured);
    assert!(text.contains("strict mode"), "{text}");
}

/// A rate limit of so many points per second, in place of a minute.
fn rated(capacity: f64) -> impl Rule {
    let state = std::sync::Mutex::new((capacity, Instant::now()));
    move |path: &str, message: &[u8]| {
        if path != UPDATE {
            return Act::Pass;
        }
        let cost = sizes(&decode(message)).0 as f64;
        if cost > capacity {
            let words = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, \
                         please try to split your request";
            return Act::Status(Code::ResourceExhausted, words.to_owned(), None);
        }
        let mut state = state.lock().unwrap();
        let (tokens, since) = *state;
        let tokens = (tokens + since.elapsed().as_secs_f64() * capacity).min(capacity);
        *state = (if tokens < cost { tokens } else { tokens - cost }, Instant::now());
        if tokens < cost {
            let words = "Rate limiting exceeded: Write rate limit exceeded. Retry after 1s";
            return Act::Status(Code::ResourceExhausted, words.to_owned(), Some(1));
        }
        Act::Pass
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_below_the_batch_is_kept_to_and_rejects_no_chunk() {
    let vectors = Vectors::of("1.18.1").await;
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, limit) = (Arc::clone(&calls), rated(50.0));
    let (_, store) = behind(&vectors, move |path: &str, message: &[u8]| {
        counted.fetch_add(usize::from(path == UPDATE), Ordering::Relaxed);
        limit(path, message)
    })
    .await;
    let mut rest: Vec<_> = states(120).iter().map(|state| write(state, 1)).collect();
    let begun = Instant::now();
    while !rest.is_empty() {
        let answers = apply_divided(&store, &rest, || true).await;
        if let Some(answer) = answers.iter().find(|answer| !answer.is_durable()) {
            assert_eq!(fault(answer).0, FaultClass::Busy, "{answer:?}");
        }
        rest =
            rest.into_iter().zip(&answers).filter(|(_, answer)| !answer.is_durable()).map(|(write, _)| write).collect();
        assert!(begun.elapsed() < Duration::from_secs(30), "{} are left", rest.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(vectors.store.counts().await.unwrap().chunks, 120);
    // Each second of waiting costs one refused call per stream, not one per attempt.
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(calls.load(Ordering::Relaxed) <= 120 / 6 + 2 * (seconds + 1), "{calls:?} in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_the_rate_limit() {
    let vectors = Vectors::of("1.18.1").await;
    written(&vectors.store, &[write(&states(1)[0], 1)]).await;
    let calls = AtomicUsize::new(0);
    let (_, store) = behind(&vectors, move |path: &str, _: &[u8]| match path {
        "/qdrant.Points/Scroll" if calls.fetch_add(1, Ordering::Relaxed) == 0 => {
            Act::Status(Code::ResourceExhausted, "Rate limiting exceeded: Read rate limit exceeded".to_owned(), Some(1))
        }
        _ => Act::Pass,
    })
    .await;
    assert_eq!(scanned(&store).await.len(), 1);
}

/// A server that refuses every write with this status.
fn refusing(code: Code, message: &'static str) -> impl Rule {
    move |path: &str, _: &[u8]| match path {
        UPDATE | "/qdrant.Points/Delete" | "/qdrant.Points/Upsert" | "/qdrant.Collections/UpdateAliases" => {
            Act::Status(code, message.to_owned(), None)
        }
        _ => Act::Pass,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_can_only_read_and_a_full_or_read_only_disk_are_named_by_writes_and_by_doctor() {
    for (code, message, class, named) in [
        (Code::PermissionDenied, "Forbidden", FaultClass::Denied, "this one can only read"),
        (
            Code::Internal,
            "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
            FaultClass::Unavailable,
            "disk of the Qdrant server is full",
        ),
        (
            Code::Internal,
            "Service internal error: IO Error: Read-only file system (os error 30)",
            FaultClass::Unavailable,
            "is read-only",
        ),
    ] {
        let vectors = Vectors::of("1.18.1").await;
        let (config, store) = behind(&vectors, refusing(code, message)).await;
        store.prepare().await.unwrap();
        let (answered, text) = fault(&store.apply(&[write(&states(1)[0], 1)]).await[0]);
        assert!(answered == class && text.contains(named), "{answered:?} {text}");
        let found = examine(&config).await;
        let finding = found.iter().find(|finding| finding.subject == "rights").unwrap();
        assert!(finding.level > Level::Warning && finding.text.contains(named), "{finding:?}");
    }
}
