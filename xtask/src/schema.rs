//! The description of the HTTP interface against a running service: Schemathesis sends requests that the description permits
//! and requests that it forbids, with the token and without, and compares the answers with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::step::{Interruption, announce, code as step_code, run as run_step, summary};

const VERSION: &str = "4.32.5";
const TOKEN: &str = "the-token-of-the-schema-task";

/// A service on embedded stores; killed when it is dropped.
struct Service {
    process: Child,
    url: String,
}

/// Runs Schemathesis against the service at `--url URL` with `--token TOKEN`, or against one that it starts. The exit code is
/// not zero when an answer differs from the description.
///
/// # Errors
/// Schemathesis cannot be installed, or no service starts.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let (interruption, directory) = (Interruption::catch()?, root.join(".dev/schema"));
    let program = install(root)?;
    let service;
    let (url, token) = match words {
        ["--url", url, "--token", token] => ((*url).to_owned(), *token),
        [] => {
            service = Service::start(root, &directory)?;
            (service.url.clone(), TOKEN)
        }
        _ => bail!("invalid arguments of `schema`: `{}`; use `[--url URL --token TOKEN]`", words.join(" ")),
    };
    let mut outcomes = Vec::new();
    for (name, header) in [("with the token", Some(format!("Authorization: Bearer {token}"))), ("without", None)] {
        announce(name);
        let arguments = arguments(root, &url, header);
        outcomes.push((name, run_step(&program, &arguments, root, &[], &interruption)?));
    }
    print!("\n{}", summary(&outcomes));
    Ok(ExitCode::from(step_code(&outcomes)))
}

fn arguments(root: &Path, url: &str, header: Option<String>) -> Vec<String> {
    let config = root.join("xtask/schemathesis.toml").display().to_string();
    let words = ["--config-file", &config, "run", &format!("{url}/openapi.json"), "--wait-for-schema", "30"];
    // Streams do not end: a request waits no longer than this.
    let limits = "--request-timeout 5 --max-examples 10 --continue-on-failure --suppress-health-check all";
    let words = words.into_iter().chain(limits.split(' ')).map(str::to_owned);
    words.chain(header.into_iter().flat_map(|header| ["--header".to_owned(), header])).collect()
}

/// Installs Schemathesis below `.dev`, unless it is there.
fn install(root: &Path) -> Result<PathBuf> {
    let home = root.join(".dev/schemathesis").join(VERSION);
    let program = home.join("bin/schemathesis");
    if !program.is_file() {
        let done = |command: &mut Command| -> Result<()> {
            let status = command.status().context("cannot run Python; install python3 and python3-venv")?;
            ensure!(status.success(), "Schemathesis {VERSION} cannot be installed");
            Ok(())
        };
        done(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        done(Command::new(home.join("bin/pip")).args(["install", "--quiet", &format!("schemathesis=={VERSION}")]))?;
    }
    Ok(program)
}

impl Service {
    /// Builds the program, and starts it with some chunks in an empty directory.
    fn start(root: &Path, directory: &Path) -> Result<Self> {
        let built = Command::new("cargo").current_dir(root).args(["build", "--package", "chunk-sync"]).status();
        ensure!(built.context("cannot run cargo")?.success(), "the program cannot be built");
        if directory.exists() {
            std::fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.context("no free port")?.to_string();
        let command = || {
            let mut command = Command::new(root.join("target/debug/chunk-sync"));
            command.current_dir(directory).env("CHUNK_SYNC__HTTP__LISTEN", &address);
            command.env("CHUNK_SYNC__HTTP__TOKEN", TOKEN).env("CHUNK_SYNC__HTTP__REQUESTS_PER_SECOND", "0");
            command.env("CHUNK_SYNC__EMBEDDED__DIR", "data").stdin(Stdio::null());
            command
        };
        let chunks = root.join("crates/samples/data/chunks.jsonl");
        let published = command().arg("publish").arg(chunks).status().context("cannot run chunk-sync")?;
        ensure!(published.success(), "the sample chunks cannot be published");
        let log = std::fs::File::create(directory.join("log")).context("cannot create the log of the service")?;
        let process =
            command().arg("run").stderr(log).stdout(Stdio::null()).spawn().context("cannot start the service")?;
        Ok(Self { process, url: format!("http://{address}") })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
