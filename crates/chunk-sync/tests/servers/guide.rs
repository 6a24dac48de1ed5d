//! The examples of the guide `docs/guide/publishing.md`, run as they are printed there, with the clients that they name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use uuid::Uuid;

use crate::environment::{Environment, patient, variable};

const GUIDE: &str = include_str!("../../../../docs/guide/publishing.md");

/// The chunks that the examples publish, with the content at the end.
const PUBLISHED: [(&str, &str); 5] = [
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0001", "Published by redis-cli."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0002", "Published by Python."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0004", "Published by TypeScript."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0005", "Published by SQL."),
    ("0b5a2f5e-6a3e-4f0b-9a57-0d6f6f1f0006", "Published by curl."),
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

/// Runs an example with the variables that the guide names, as `sh`, Debian's Python or Node.js runs it.
fn example(name: &str, code: &str, variables: &[(&str, &str)]) {
    let directory = tempfile::TempDir::new().unwrap();
    let mut command = match name {
        "python" => Command::new("/usr/bin/python3"),
        "typescript" => {
            let node = PathBuf::from(variable("CHUNK_SYNC_TEST_NODE"));
            std::os::unix::fs::symlink(node.join("node_modules"), directory.path().join("node_modules")).unwrap();
            Command::new(node.join("bin/node"))
        }
        _ => Command::new("sh"),
    };
    let file = directory.path().join(if name == "typescript" { "publish.mts" } else { "publish" });
    std::fs::write(&file, code).unwrap();
    command.args((command.get_program() == "sh").then_some("-e")).arg(file).envs(variables.iter().copied());
    let output = command.output().unwrap_or_else(|error| panic!("{name}: cannot run {command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}\n`cargo xtask services up` installs the clients");
}

/// A loopback address that nothing listens on.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_guide_publish() {
    let environment = Environment::new().await;
    let servers = variable("CHUNK_SYNC_TEST_REDIS_URL");
    let redis = format!("{}/{DATABASE}", servers.trim_end_matches("/0"));
    let client = redis::Client::open(redis.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    let (address, token) = (free_address(), "a-token-of-the-examples");
    let variables = [
        ("CHUNK_SYNC__HTTP__LISTEN", address.as_str()),
        ("CHUNK_SYNC__HTTP__TOKEN", token),
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
    assert_eq!(examples.keys().copied().collect::<Vec<_>>(), ["curl", "python", "redis-cli", "sql", "typescript"]);
    let url = format!("http://{address}");
    environment.visible("the service", || async { std::net::TcpStream::connect(&address).is_ok() }).await;
    let named = [
        ("REDIS_URL", redis.as_str()),
        ("DATABASE_URL", &environment.database),
        ("CHUNK_SYNC_URL", &url),
        ("CHUNK_SYNC__HTTP__TOKEN", token),
    ];
    for (name, code) in examples {
        example(name, code, &named);
    }
    for (id, content) in PUBLISHED {
        let id: Uuid = id.parse().unwrap();
        environment.visible(content, || environment.point_is(id, "content", content)).await;
        environment.visible(content, || environment.has_node(id)).await;
    }
    service.terminate();
    let report: Value = serde_json::from_str(&run(&["verify", "--json"])).unwrap();
    assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &5.into()), "{report}");
    let dead: Value = serde_json::from_str(&run(&["dead", "list", "--json"])).unwrap();
    assert_eq!(dead["total"], 0, "{dead}");
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
}
