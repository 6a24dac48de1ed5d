//! No secret is printed: passwords, keys and tokens in every place of URL, setting, variable and file that can hold one,
//! under every command, with the log at its most detailed level and backtraces on. The stores are ports that are closed,
//! that answer nonsense, or that close the connection, so that every error of every client occurs. `servers leaks` does the
//! same with real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The beginning of every planted secret. The last three are the same secret as another layer may write it.
const PLANTED: [&str; 4] = ["pl4nted", "pl4%6eted", "cGw0bnRlZ", "pl4\\u006eted"];

/// Every command that reads the configuration.
const ALL: &[&[&str]] = &[
    &["config", "show"],
    &["config", "show", "--json"],
    &["config", "check"],
    &["doctor"],
    &["doctor", "--json"],
    &["init", "--dry-run", "--json"],
    &["init"],
    &["status"],
    &["status", "--json"],
    &["verify", "--json"],
    &["backfill"],
    &["publish", "in.jsonl", "--json"],
    &["dead", "list", "--json"],
    &["conflicts", "list"],
    &["wal", "status", "--json"],
    &["run", "--drain"],
];

/// For settings that are refused when they are read: the others fail in the same way.
const FEW: &[&[&str]] = &[
    &["config", "show"],
    &["config", "show", "--json"],
    &["config", "check"],
    &["doctor", "--json"],
    &["run", "--drain"],
];

/// How long a command may try to reach its servers before it is ended.
const PATIENCE: Duration = Duration::from_secs(15);

/// A set-up: lines of the configuration file, and variables.
#[derive(Default)]
struct SetUp {
    file: String,
    variables: Vec<(String, String)>,
}

impl SetUp {
    fn of(lines: &[(&str, String)]) -> Self {
        let line = |(key, value): &(&str, String)| format!("{key} = {}\n", toml::Value::from(value.as_str()));
        Self { file: lines.iter().map(line).collect(), variables: Vec::new() }
    }

    /// The same settings from variables instead of the file.
    fn from_variables(lines: &[(&str, String)]) -> Self {
        let variable = |(key, value): &(&str, String)| {
            (format!("CHUNK_SYNC__{}", key.to_uppercase().replace('.', "__")), value.clone())
        };
        Self { file: String::new(), variables: lines.iter().map(variable).collect() }
    }

    fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }
}

/// Runs commands and returns what leaked, with the command.
fn leaks(set_up: &SetUp, commands: &[&[&str]]) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("chunk-sync.toml"), &set_up.file).unwrap();
    let chunk = chunk_sync_samples::samples().remove(0).to_string();
    std::fs::write(dir.path().join("in.jsonl"), chunk).unwrap();
    let mut found = Vec::new();
    for command in commands {
        let mut program = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
        program.current_dir(dir.path()).args(*command).stdin(Stdio::null());
        program.env("CHUNK_SYNC__LOG__LEVEL", "trace").env("RUST_BACKTRACE", "full");
        program.env("CHUNK_SYNC__WAL__DIR", dir.path().join("wal")).env("CHUNK_SYNC__HTTP__LISTEN", "127.0.0.1:0");
        program.envs(set_up.variables.iter().map(|(name, value)| (name, value)));
        let paths = ["out", "err"].map(|name| dir.path().join(name));
        let [out, err] = paths.each_ref().map(|path| std::fs::File::create(path).unwrap());
        end(&mut program.stdout(out).stderr(err).spawn().unwrap());
        for text in paths.map(|path| std::fs::read(path).unwrap()) {
            let text = String::from_utf8_lossy(&text);
            let leaking = text.lines().filter(|line| PLANTED.iter().any(|planted| line.contains(planted)));
            found.extend(leaking.map(|line| format!("{command:?}: {line}")));
        }
        found.extend(on_disk(&dir.path().join("wal")));
    }
    found
}

/// Waits for the end of the program; ends it after [`PATIENCE`].
fn end(program: &mut Child) {
    let began = Instant::now();
    while program.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            program.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files below `dir` that contain a secret.
fn on_disk(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files
        .filter(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(PLANTED[0]))
        .map(|path| format!("{}", path.display()))
        .collect()
}

fn assert_silent(case: &str, set_up: &SetUp, commands: &[&[&str]]) {
    let leaks = leaks(set_up, commands);
    assert!(leaks.is_empty(), "{case}:\n{}", leaks.join("\n"));
}

/// A port that answers every request with this, and returns what the client sent: servers quote input in their errors.
fn port(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    port
}

fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Credentials for all four servers at these ports.
fn all_at(port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("postgres.url", format!("postgres://u:pl4nted-1@127.0.0.1:{port}/d?connect_timeout=2")),
        ("postgres.replication_url", format!("host=127.0.0.1,localhost port={port} user=u password='pl4nted 2'")),
        ("redis.url", format!("redis://u:pl4nted-3@127.0.0.1:{port}/1")),
        ("qdrant.url", format!("http://127.0.0.1:{port}")),
        ("qdrant.api_key", "pl4nted-4".to_owned()),
        ("neo4j.url", format!("bolt://127.0.0.1:{port}")),
        ("neo4j.password", "pl4nted-5".to_owned()),
        ("http.token", "pl4nted-6-0123456789".to_owned()),
    ]
}

#[test]
fn valid_settings_with_servers_that_fail_in_any_way() {
    let http: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let postgres: &[u8] = b"E\0\0\0\x20SFATAL\0C28P01\0Mwrong password\0\0";
    let redis: &[u8] = b"-WRONGPASS invalid username-password pair\r\n";
    for (case, port) in [
        ("closed", closed()),
        ("silent", port(b"")),
        ("HTTP", port(http)),
        ("PostgreSQL", port(postgres)),
        ("Redis", port(redis)),
    ] {
        assert_silent(case, &SetUp::of(&all_at(port)), ALL);
    }
    assert_silent("from variables", &SetUp::from_variables(&all_at(closed())), ALL);
}

#[test]
fn tls_and_sentinels_and_files_of_keys() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\ncGw0bnRlZA==\n-----END PRIVATE KEY-----\npl4nted\n");
    let port = closed();
    let mut lines = all_at(port);
    for (name, value) in &mut lines {
        match *name {
            "postgres.url" => {
                *value =
                    format!("postgres://u:pl4nted-1@localhost:{port}/d?sslmode=verify-full&sslcert={key}&sslkey={key}");
            }
            "redis.url" => *value = "rediss://u:pl4nted-3@mymaster/1".to_owned(),
            "qdrant.url" => *value = format!("https://localhost:{port}"),
            "neo4j.url" => *value = format!("neo4j+s://localhost:{port}"),
            _ => {}
        }
    }
    for section in ["redis", "neo4j"] {
        for name in ["ca_file", "cert_file", "key_file"] {
            lines.push((Box::leak(format!("{section}.{name}").into_boxed_str()), key.clone()));
        }
    }
    lines.push(("redis.sentinel_user", "u".to_owned()));
    lines.push(("redis.sentinel_password", "pl4nted-7".to_owned()));
    let mut set_up = SetUp::of(&lines);
    set_up.file = format!("redis.sentinels = ['127.0.0.1:{port}']\n{}", set_up.file);
    assert_silent("TLS and Sentinels", &set_up, ALL);
    // The files above are no certificates, and a connection is refused before the Sentinels are asked.
    let without_files = lines.iter().filter(|(name, _)| !name.ends_with("_file")).cloned();
    let mut asked = SetUp::of(&without_files.collect::<Vec<_>>());
    asked.file = format!("redis.sentinels = ['127.0.0.1:{port}']\n{}", asked.file);
    assert_silent("Sentinels that are asked", &asked, FEW);
    set_up.file = set_up.file.replace("'127.0.0.1:", "'u:pl4nted@127.0.0.1:");
    assert_silent("a password in the list of Sentinels", &set_up, FEW);
    set_up.file = set_up.file.replace("u:pl4nted@127.0.0.1", "pl4nted:pl4nted");
    assert_silent("a Sentinel that is no host and port", &set_up, FEW);

    let passfile = file("pgpass", &format!("127.0.0.1:{port}:*:*:pl4nted\\:8\n*:*:*:*:pl4nted-9\n"));
    let service = file("services", &format!("[mine]\nhost=127.0.0.1\nport={port}\npassword=pl4nted-10\n"));
    let base = || SetUp::of(&[("postgres.url", format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=2"))]);
    assert_silent("passfile", &base().and("PGPASSFILE", passfile.as_str()), FEW);
    assert_silent("PGPASSWORD", &base().and("PGPASSWORD", "pl4nted-11"), FEW);
    assert_silent("service", &base().and("PGSERVICE", "mine").and("PGSERVICEFILE", service.as_str()), FEW);
    assert_silent(
        "a service file that is none",
        &base().and("PGSERVICE", "mine").and("PGSERVICEFILE", passfile.as_str()),
        FEW,
    );
    let named = format!("postgres://u@127.0.0.1:{port}/d?passfile={passfile}");
    assert_silent("named passfile", &SetUp::of(&[("postgres.url", named)]), FEW);
}

#[test]
fn settings_that_are_refused() {
    for url in [
        "postgres://u:pl4nted@h@127.0.0.1/d",
        "postgres://u:pl4nted/x@127.0.0.1/d",
        "postgres://u:pl4nted#x@127.0.0.1:1/d",
        "postgres://u:pl4nted",
        "postgres://127.0.0.1:pl4nted/d",
        "postgres:/u:pl4nted@h/d",
        "jdbc:postgresql://127.0.0.1/d?user=u&password=pl4nted",
        "postgres+asyncpg://u:pl4nted@127.0.0.1/d",
        "postgres://u:pl4nted%zz@127.0.0.1/d",
        "postgres://u:pl4%6eted%@127.0.0.1/d",
        "postgres://u@127.0.0.1/d?password=pl4nted&sslmode=perhaps",
        "postgres://u@127.0.0.1/d?passwrod=pl4nted",
        "postgres://u@127.0.0.1/d?sslpassword=pl4nted",
        "postgres://u@127.0.0.1/d?oauth_client_secret=pl4nted&scram_client_key=pl4nted",
        "postgres://u:pl4nted@127.0.0.1/d?sslmode=perhaps",
        "host=127.0.0.1 password='pl4nted",
        "host=127.0.0.1 password=two pl4nted",
        "host=127.0.0.1 password pl4nted",
        "host=127.0.0.1 passwrod=pl4nted port=x",
        "user=u;password=pl4nted;host=h",
        "pl4nted",
    ] {
        assert_silent(url, &SetUp::of(&[("postgres.url", url.to_owned())]), FEW);
    }
    for (key, url) in [
        ("redis.url", "redis://pl4nted@127.0.0.1:1"),
        ("redis.url", "redis://:pl4nted@127.0.0.1:1/x"),
        ("redis.url", "redis://u:pl4/nted@pl4nted@h:1"),
        ("redis.url", "redis://127.0.0.1:1/0?password=pl4nted"),
        ("redis.url", "redis://127.0.0.1:1/0?token=pl4nted&protocol=resp3"),
        ("redis.url", "redis-sentinel://:pl4nted@h:1"),
        ("redis.url", "127.0.0.1:1,password=pl4nted,ssl=True"),
        ("qdrant.url", "https://pl4nted@127.0.0.1:1"),
        ("qdrant.url", "https://u:pl4nted@127.0.0.1:1"),
        ("qdrant.url", "https://127.0.0.1:1?api_key=pl4nted"),
        ("qdrant.url", "127.0.0.1:1?api_key=pl4nted"),
        ("qdrant.api_key", "two pl4nted"),
        ("neo4j.url", "bolt://neo4j:pl4nted@127.0.0.1:1"),
        ("neo4j.url", "bolt://neo4j:pl4nted"),
        ("neo4j.url", "neo4j://pl4nted@127.0.0.1:1"),
        ("neo4j.url", "http://neo4j:pl4nted@127.0.0.1:7474"),
        ("http.token", "pl4nted"),
        ("neo4j.passwort", "pl4nted"),
    ] {
        let known = [("qdrant.url", "http://127.0.0.1:1"), ("neo4j.url", "bolt://127.0.0.1:1")];
        let mut lines = vec![(key, url.to_owned())];
        lines.extend(known.into_iter().filter(|(name, _)| *name != key).map(|(name, url)| (name, url.to_owned())));
        assert_silent(url, &SetUp::of(&lines), FEW);
        assert_silent(url, &SetUp::from_variables(&lines), FEW);
    }
    let broken = SetUp { file: "[neo4j]\npassword = 'pl4nted\n[x".to_owned(), variables: Vec::new() };
    assert_silent("a file that is not TOML", &broken, FEW);
}
