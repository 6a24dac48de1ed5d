//! What an operator sets wrong, on real servers: nothing is lost, and the program states what to change.

use std::net::TcpListener;

use crate::environment::{Environment, readiness};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Rows that the application writes by SQL beside the published chunks.
const ROWS: u64 = 100;

/// The application writes rows. They pass every limit, and prove nothing about one.
async fn write_rows(environment: &Environment) {
    let rows = format!(
        "INSERT INTO unified.chunks (id, content)
         SELECT gen_random_uuid(), 'row of the application ' || g FROM generate_series(1, {ROWS}) g"
    );
    environment.sql(&rows).await;
    environment.visible("the rows of the application", || async { environment.nodes().await == ROWS }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_limit_holds_everything_until_it_is_right() {
    const CHUNKS: u64 = 200;
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let listens = ("CHUNK_SYNC__HTTP__LISTEN", listen.as_str());
    let run = environment.go_on(&[], &[listens, ("CHUNK_SYNC__LIMITS__CONTENT_MIN_CHARS", "10000")]);
    environment.visible("capture", || environment.captured_by_somebody()).await;
    write_rows(&environment).await;
    environment.publish(200);
    let refused = |answer: String| answer.contains(" 503 ") && answer.contains("the minimum is 10000");
    environment.visible("the reason", || async { readiness(port).is_some_and(refused) }).await;
    environment.settled().await;
    assert_eq!((environment.dead_count().await, environment.nodes().await), (0, ROWS));
    run.terminate();

    let run = environment.go_on(&[], &[listens]);
    environment.visible("every chunk", || async { environment.nodes().await == ROWS + CHUNKS }).await;
    environment.visible("readiness", || async { readiness(port).is_some_and(|answer| answer.contains(" 200 ")) }).await;
    assert_eq!(environment.dead_count().await, 0);
    run.terminate();
    environment.assert_equal(ROWS + CHUNKS);
}
