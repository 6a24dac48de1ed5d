//! What other Redis clients do to the stream: they delete or trim entries that the service has not read, and add ids of the
//! future.

use uuid::Uuid;

use crate::environment::{Environment, lines};
use crate::leaks::page;

/// More rows than the service reads from the stream at once.
const ROWS: usize = 1_500;

const NO_SCRUB: (&str, &str) = ("CHUNK_SYNC__SCRUB__ENABLED", "false");

async fn command(environment: &Environment, words: &[&str]) -> redis::Value {
    let (name, rest) = words.split_first().unwrap();
    let mut command = redis::cmd(name);
    for word in rest {
        command.arg(word.replace("STREAM", &format!("{}:stream", environment.name)));
    }
    command.query_async(&mut environment.redis.clone()).await.unwrap()
}

/// The number of entries that the group has not read.
async fn unread(environment: &Environment) -> u64 {
    let groups = environment.info("GROUPS").await;
    redis::from_redis_value(groups[0]["lag"].clone()).unwrap_or_default()
}

/// Captured rows are on the stream and no process has read them, because every merge waits for a lock; then another client
/// runs `lose`.
async fn captured_rows_are_lost(lose: &[&str], killed: bool) {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let mut run = Some(environment.go_on(&[], &[NO_SCRUB]));
    environment.visible("capture", || environment.captured_by_somebody()).await;
    let (blocking, connection) = tokio_postgres::connect(&environment.database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE chunk_sync.records, chunk_sync.waiting IN ACCESS EXCLUSIVE MODE";
    blocking.batch_execute(lock).await.unwrap();
    let rows = format!(
        "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
         SELECT gen_random_uuid(), 'row ' || n || ' of the application', 'text', now(), now()
         FROM generate_series(1, {ROWS}) n"
    );
    environment.sql(&rows).await;
    environment.visible("unread entries", || async { unread(&environment).await > 200 }).await;
    if let Some(run) = run.take_if(|_| killed) {
        run.kill();
    }
    command(&environment, lose).await;
    blocking.batch_execute("ROLLBACK").await.unwrap();
    if killed {
        run = Some(environment.go_on(&[], &[NO_SCRUB]));
    }
    environment.visible("every row", || async { environment.nodes().await == ROWS as u64 }).await;
    environment.settled().await;
    run.expect("it runs").terminate();
    environment.assert_equal(ROWS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_rows_of_a_deleted_stream_are_captured_again() {
    captured_rows_are_lost(&["DEL", "STREAM"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_rows_that_another_client_trims_are_captured_again() {
    captured_rows_are_lost(&["XTRIM", "STREAM", "MAXLEN", "0"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_rows_of_a_stream_deleted_after_a_crash_are_captured_again() {
    captured_rows_are_lost(&["DEL", "STREAM"], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_the_future_is_reported_and_what_follows_it_is_carried() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let run = environment.go_on(&[], &[("CHUNK_SYNC__HTTP__LISTEN", &listen)]);
    let chunks = lines(4);
    let (event, now) = (Uuid::new_v4().to_string(), jiff::Timestamp::now().to_string());
    let fields = [
        ("event_id", event.as_str()),
        ("type", "create"),
        ("source", "claude"),
        ("targets", r#"["postgres", "qdrant", "neo4j"]"#),
        ("chunk", &chunks[0]),
        ("timestamp", &now),
    ];
    let words: Vec<&str> = ["XADD", "STREAM", "9999999999999-0"]
        .into_iter()
        .chain(fields.iter().flat_map(|(name, value)| [*name, *value]))
        .collect();
    command(&environment, &words).await;
    environment.visible("the entry", || async { environment.nodes().await == 1 }).await;
    let reported = || async {
        let status = page(port, "GET /v1/status").unwrap_or_default();
        ["9999999999999-0", "XDEL", "XSETID"].iter().all(|word| status.contains(word))
    };
    environment.visible("the warning", reported).await;
    // Their ids lie in the future as well.
    environment.publish_lines(&chunks[1..]);
    environment.visible("what follows", || async { environment.nodes().await == 4 }).await;
    environment.settled().await;
    assert_eq!(environment.dead_count().await, 0);
    run.terminate();
    environment.assert_equal(4);
}
