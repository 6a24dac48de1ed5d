//! The resident memory of the service stays bounded, whatever one entry, one transaction, one chunk or the dead letters
//! have.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::environment::{Environment, Run, lines, peak};

/// Peak resident memory, in KiB, that the specification allows.
const MOST: u64 = 300 << 10;

/// Asserts the bound, prints the peak, and ends the service.
pub(crate) fn assert_bounded(what: &str, run: Run) {
    let peak = peak(run.id()).expect("the service has ended");
    eprintln!("{what}: {} MiB at most", peak >> 10);
    assert!(peak < MOST, "{what}: {peak} KiB of resident memory");
    run.kill();
}

/// Runs a command to its end, which must be a success, and asserts the bound.
fn assert_command_bounded(environment: &Environment, words: &[&str]) {
    let mut command = environment.program(words).stdout(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    let ended = loop {
        most = peak(command.id()).unwrap_or(0).max(most);
        match command.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    eprintln!("{words:?}: {} MiB at most", most >> 10);
    assert!(ended.success() && most < MOST, "{words:?}: {ended}, {most} KiB of resident memory");
}

async fn initialised() -> Environment {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment
}

fn event(chunk: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("event_id", Uuid::new_v4().to_string()),
        ("type", "update".to_owned()),
        ("source", "claude".to_owned()),
        ("targets", r#"["postgres","qdrant","neo4j"]"#.to_owned()),
        ("timestamp", jiff::Timestamp::now().to_string()),
        ("chunk", chunk.to_string()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_entry_of_70_megabytes_is_dead_lettered_without_being_read() {
    let environment = initialised().await;
    let run = environment.start();
    let mut large = event(&json!({ "id": Uuid::new_v4() }));
    large.push(("chunk", "x".repeat(70_000_000)));
    large.remove(5);
    environment.add(&large).await;
    drop(large);
    environment.publish_lines(&lines(5));
    environment.visible("the chunks behind it", || async { environment.nodes().await == 5 }).await;
    environment.settled().await;
    environment.visible("the dead letter", || async { environment.dead_count().await == 1 }).await;
    assert_bounded("one entry of 70 MB", run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_many_rows_is_read_in_parts() {
    let environment = initialised().await;
    let run = environment.start();
    environment.visible("capture", || environment.captured_by_somebody()).await;
    let rows = std::env::var("CHUNK_SYNC_TEST_ROWS").unwrap_or_else(|_| "200000".to_owned());
    environment
        .sql(&format!(
            "INSERT INTO unified.chunks (id, content)
             SELECT gen_random_uuid(), 'text number ' || g FROM generate_series(1, {rows}) g"
        ))
        .await;
    // Capture holds as many rows as it ever does while the first ones are carried.
    environment.visible("captured rows", || async { environment.entries_added().await > 20_000 }).await;
    environment.visible("carried rows", || async { environment.nodes().await > 1_000 }).await;
    assert_bounded(&format!("a transaction of {rows} rows"), run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_long_rows_are_read_a_few_at_a_time() {
    const ROWS: u64 = 40;
    let environment = initialised().await;
    let run = environment.start();
    environment.visible("capture", || environment.captured_by_somebody()).await;
    // Each is below the limit of a row, and all of them have more than the service may hold.
    let insert = |number: u64| {
        format!(
            "INSERT INTO unified.chunks (id, content)
             SELECT gen_random_uuid(), repeat(md5(g::text), 300000) FROM generate_series(1, {number}) g"
        )
    };
    environment.sql(&insert(ROWS)).await;
    environment.visible("the rows", || async { environment.nodes().await == ROWS }).await;
    environment.settled().await;
    assert_command_bounded(&environment, &["verify"]);
    assert_bounded("40 rows of 10 MB, captured", run);
    // While no process captures.
    environment.sql(&insert(ROWS)).await;
    assert_command_bounded(&environment, &["backfill"]);
    let run = environment.start();
    environment.visible("all rows", || async { environment.nodes().await == 2 * ROWS }).await;
    environment.settled().await;
    assert_command_bounded(&environment, &["verify"]);
    assert_bounded("80 rows of 10 MB, half of them backfilled", run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_dead_letters_and_idle_groups_are_not_kept_in_memory() {
    let environment = initialised().await;
    let run = environment.start();
    let mut redis = environment.redis.clone();
    for part in 0..20 {
        let mut entries = redis::pipe();
        for number in 0..500 {
            let text = format!("no chunk {part} {number} {}", "x".repeat(2_000));
            let add = entries.cmd("XADD").arg(format!("{}:stream", environment.name)).arg("*").arg("chunk").arg(text);
            add.ignore();
        }
        entries.query_async::<()>(&mut redis).await.unwrap();
    }
    let mut groups = redis::pipe();
    for number in 0..1_000 {
        let create = groups.cmd("XGROUP").arg("CREATE").arg(format!("{}:stream", environment.name));
        create.arg(format!("idle-{number}")).arg("$").ignore();
    }
    groups.query_async::<()>(&mut redis).await.unwrap();
    environment.publish_lines(&lines(5));
    // All entries before them have been read by then.
    environment.visible("the chunks behind them", || async { environment.nodes().await == 5 }).await;
    assert_bounded("10,000 dead letters, 1,000 idle groups", run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_changes_thousands_of_times_keeps_a_bounded_record() {
    let environment = initialised().await;
    let run = environment.start();
    let chunk: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    let id: Uuid = chunk["id"].as_str().unwrap().parse().unwrap();
    let mut redis = environment.redis.clone();
    for part in 0..6 {
        let mut entries = redis::pipe();
        for number in 0..500 {
            let mut chunk = chunk.clone();
            chunk["content"] = format!("the text of the change {part} {number}").into();
            chunk["metadata"]["topic"] = format!("{part} {number}").into();
            let now = jiff::Timestamp::now() - Duration::from_secs(60);
            chunk["metadata"]["updated_at"] = now.to_string().into();
            let add = entries.cmd("XADD").arg(format!("{}:stream", environment.name)).arg("*");
            for (name, value) in event(&chunk) {
                add.arg(name).arg(value);
            }
            add.ignore();
        }
        entries.query_async::<()>(&mut redis).await.unwrap();
    }
    environment.visible("the last change", || environment.point_says(id, "topic", "5 499")).await;
    environment.settled().await;
    let record = environment.count("SELECT max(length(record))::bigint FROM chunk_sync.records").await;
    assert!(record < 1 << 20, "the record has {record} bytes");
    assert_bounded(&format!("3,000 changes of one chunk, whose record has {record} bytes"), run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_above_the_limit_are_named_by_verify_and_never_deleted() {
    let environment = initialised().await;
    let run = environment.start();
    environment.publish(5);
    environment.settled().await;
    let id = environment.ids().await[0];
    let grow = format!("UPDATE unified.chunks SET content = repeat('x', 70000000) WHERE id = '{id}'");
    environment.sql(&grow).await;
    environment.visible("the dead letter", || async { environment.dead_count().await == 1 }).await;
    let report = environment.found(&["verify", "--json"]);
    assert_eq!((&report["chunks"], &report["stores"]["postgres"]["oversize"]), (&5.into(), &1.into()), "{report}");
    assert_eq!(report["differences"].as_array().unwrap().len(), 1, "{report}");
    let repair = environment.program(&["verify", "--repair"]).output().unwrap();
    assert_eq!(repair.status.code(), Some(1), "{}", String::from_utf8_lossy(&repair.stdout));
    assert!(environment.has_node(id).await && environment.has_point(id).await);
    environment.sql(&format!("UPDATE unified.chunks SET content = 'short again' WHERE id = '{id}'")).await;
    environment.visible("the row", || environment.point_is(id, "content", "short again")).await;
    environment.settled().await;
    environment.assert_equal(5);
    assert_bounded("a row of 70 MB", run);
}
