//! The examples of the guide `docs/guide/publishing.md`, run as they are printed there, with the clients that they name.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use uuid::Uuid;

use crate::environment::{Environment, variable};

const GUIDE: &str = include_str!("../../../../docs/guide/publishing.md");

/// The chunks that the examples publish, with the content at the end.
const PUBLISHED: [(&str, &str); 3] = [
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0001", "Published by redis-cli."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0002", "Published by Python."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0005", "Published by SQL."),
];

/// The logical database of Redis that this test has to itself: the guide names the default stream.
const DATABASE: u8 = 9;

/// The code blocks that a marker `<!-- run: NAME -->` precedes, by name.
fn examples() -> BTreeMap<&'static str, &'static str> {
    let marked = GUIDE.split("<!-- run: ").skip(1);
    marked
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n```").expect("a code block after the marker");
            let (_, code) = rest.split_once('\n').expect("a code block of several lines");
            (name, code.split("\n```\n").next().unwrap())
        })
        .collect()
}

/// Runs an example with the variables that the guide names.
fn example(name: &str, code: &str, redis: &str, database: &str) {
    let (program, option) = match name {
        // Debian's Python, which has Debian's client.
        "python" => ("/usr/bin/python3", "-c"),
        _ => ("sh", "-ec"),
    };
    let mut command = Command::new(program);
    command.args([option, code]).env("REDIS_URL", redis).env("DATABASE_URL", database);
    let output = command.output().unwrap_or_else(|error| panic!("{name}: cannot run {program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}\nthe packages are python3-redis, redis-tools, postgresql-client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_guide_publish() {
    let environment = Environment::new().await;
    let servers = variable("CHUNK_SYNC_TEST_REDIS_URL");
    let redis = format!("{}/{DATABASE}", servers.trim_end_matches("/0"));
    let client = redis::Client::open(redis.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    let variables = [
        ("CHUNK_SYNC__REDIS__URL", redis.as_str()),
        ("CHUNK_SYNC__REDIS__STREAM", "chunk:sync:stream"),
        ("CHUNK_SYNC__REDIS__DEAD_STREAM", "chunk:sync:dead"),
    ];
    let run = |arguments: &[&str]| {
        let output = environment.program(arguments).envs(variables).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["init"]);
    let service = environment.go_on(&[], &variables);
    let examples = examples();
    assert_eq!(examples.keys().copied().collect::<Vec<_>>(), ["python", "redis-cli", "sql"]);
    for (name, code) in examples {
        example(name, code, &redis, &environment.database);
    }
    for (id, content) in PUBLISHED {
        let id: Uuid = id.parse().unwrap();
        environment.visible(content, || environment.point_is(id, "content", content)).await;
        environment.visible(content, || environment.has_node(id)).await;
    }
    service.terminate();
    let report: Value = serde_json::from_str(&run(&["verify", "--json"])).unwrap();
    assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &3.into()), "{report}");
    let dead: Value = serde_json::from_str(&run(&["dead", "list", "--json"])).unwrap();
    assert_eq!(dead["total"], 0, "{dead}");
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
}
