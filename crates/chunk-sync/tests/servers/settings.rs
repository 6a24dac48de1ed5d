//! What an operator sets wrong, or lets run full, on real servers: nothing is lost, and the program states what to change.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::environment::Environment;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The answer to `/readyz`; nothing if no service listens.
fn ready(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_limit_holds_everything_until_it_is_right() {
    const CHUNKS: u64 = 200;
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(200);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let listens = ("CHUNK_SYNC__HTTP__LISTEN", listen.as_str());
    let run = environment.go_on(&[], &[listens, ("CHUNK_SYNC__LIMITS__CONTENT_MIN_CHARS", "10000")]);
    let refused = |answer: String| answer.contains(" 503 ") && answer.contains("the minimum is 10000");
    environment.visible("the reason", || async { ready(port).is_some_and(refused) }).await;
    environment.settled().await;
    assert_eq!((environment.dead_count().await, environment.nodes().await), (0, 0));
    run.terminate();

    let run = environment.go_on(&[], &[listens]);
    environment.visible("every chunk", || async { environment.nodes().await == CHUNKS }).await;
    environment.visible("readiness", || async { ready(port).is_some_and(|answer| answer.contains(" 200 ")) }).await;
    assert_eq!(environment.dead_count().await, 0);
    run.terminate();
    environment.assert_equal(CHUNKS);
}

/// A Redis server of one test, with a small memory that does not evict.
struct Redis {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Self {
        let (port, dir) = (free_port().to_string(), tempfile::tempdir().unwrap());
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(dir.path())
            .args(["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"])
            .stdout(Stdio::null())
            .spawn()
            .expect("cannot start redis-server");
        let redis = Self { child, url: format!("redis://127.0.0.1:{port}/0"), _dir: dir };
        let began = Instant::now();
        while redis.client().await.is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        redis
    }

    async fn client(&self) -> Option<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url.as_str()).unwrap().get_multiplexed_async_connection().await.ok()
    }

    /// Adds keys of another program until the server refuses them.
    async fn fill(&self) {
        let mut client = self.client().await.unwrap();
        for size in [100_000, 1_000, 10] {
            for number in 0.. {
                let key = format!("theirs:{size}:{number}");
                let set = redis::cmd("SET").arg(key).arg("x".repeat(size)).exec_async(&mut client).await;
                if set.is_err() {
                    break;
                }
            }
        }
    }

    async fn empty(&self) {
        let mut client = self.client().await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("theirs:*").query_async(&mut client).await.unwrap();
        redis::cmd("DEL").arg(keys).exec_async(&mut client).await.unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_drains_a_redis_whose_memory_is_full() {
    let (environment, redis) = (Environment::new().await, Redis::start().await);
    let variables = [("CHUNK_SYNC__REDIS__URL", redis.url.as_str())];
    let run = |arguments: &[&str]| environment.program(arguments).envs(variables).output().unwrap();
    let fine = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = crate::environment::lines(31);
    let file = |name: &str, lines: &[String]| {
        std::fs::create_dir_all(environment.log()).unwrap();
        std::fs::write(environment.log().parent().unwrap().join(name), lines.join("\n")).unwrap();
    };
    file("first.jsonl", &lines[..30]);
    file("last.jsonl", &lines[30..]);
    fine(&["init"]);
    fine(&["publish", "first.jsonl"]);
    redis.fill().await;

    // Beside the full server: `status` answers, and `publish` states what is full and what to change.
    let status = fine(&["status"]);
    assert!(status.contains("30 events waiting"), "{status}");
    let refused = run(&["publish", "--wait", "1", "last.jsonl"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{error}");
    assert!(error.contains("raise maxmemory"), "{error}");

    let service = environment.go_on(&[], &variables);
    environment.visible("the chunks", || async { environment.nodes().await == 30 }).await;
    environment.sql("INSERT INTO unified.chunks (id, content) VALUES (gen_random_uuid(), 'captured meanwhile')").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.empty().await;
    fine(&["publish", "last.jsonl"]);
    environment.visible("the captured row and the last chunk", || async { environment.nodes().await == 32 }).await;
    service.terminate();
    let report = fine(&["verify", "--json"]);
    assert!(report.contains("\"consistent\": true") || report.contains("\"consistent\":true"), "{report}");
}
