//! The servers for the live tests, run as native processes on loopback. They are started together, recorded in a state
//! file for later calls, and stopped one by one. Each server has a module that installs, starts and probes it.

mod dev;
mod download;
mod neo4j;
mod node;
mod ports;
mod postgres;
mod process;
mod redis;
mod state;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

pub(crate) use dev::Dev;
pub(crate) use download::{find_program, wheel};
use state::{Running, State};

/// Time limit from the start of a server to its first answer. Neo4j on a busy machine needs half a minute.
const START_LIMIT: Duration = Duration::from_secs(180);

/// One kind of server: how to install it, run it and probe it.
trait Server {
    /// The name on the command line, in the state file, and of the data directory.
    fn name(&self) -> &'static str;
    /// Installs the programs if they are missing.
    fn install(&self, dev: &Dev) -> Result<()>;
    /// Creates the data directory if it does not exist.
    fn init(&self, dev: &Dev) -> Result<()>;
    /// The command that runs the server on `port` in the foreground.
    fn command(&self, dev: &Dev, port: u16) -> Result<Command>;
    /// Whether the server on `port` answers in its own protocol.
    fn answers(&self, port: u16) -> bool;
    /// The signal for an orderly and quick stop.
    fn stop_signal(&self) -> Signal;
    /// The environment variables by which tests reach it.
    fn variables(&self, port: u16, password: &str) -> Vec<(&'static str, String)>;
}

static SERVERS: [&(dyn Server + Sync); 4] = [&postgres::DEBIAN_15, &postgres::WHEEL_18, &redis::Redis, &neo4j::Neo4j];

/// The servers of one checkout.
pub(crate) struct Services {
    dev: Dev,
}

impl Services {
    /// The servers with their state below `root`, the root of the workspace.
    pub(crate) fn new(root: &Path) -> Self {
        Self { dev: Dev::new(root) }
    }

    /// The same; those that are not running yet are started for measurements.
    pub(crate) fn measuring(root: &Path) -> Self {
        Self { dev: Dev::measuring(root) }
    }

    /// The names of the servers that run now.
    pub(crate) fn running(&self) -> Result<Vec<String>> {
        let state = State::load(&self.dev.state())?;
        Ok(state.iter().filter(|running| running.process.is_alive()).map(|running| running.name.clone()).collect())
    }

    /// Starts the wanted servers that do not run yet, all at the same time, and returns when every wanted server
    /// answers.
    pub(crate) fn up(&self, wanted: &[&str]) -> Result<()> {
        let _lock = self.dev.lock()?;
        let mut state = State::load(&self.dev.state())?;
        let missing = forget_the_gone(&mut state, wanted);
        if missing.is_empty() {
            println!("already up: {}", wanted.join(", "));
        }
        for server in &missing {
            server.install(&self.dev).with_context(|| format!("cannot install {}", server.name()))?;
            server.init(&self.dev).with_context(|| format!("cannot prepare the data of {}", server.name()))?;
        }
        let began = Instant::now();
        for server in &missing {
            self.start(*server, &mut state)?;
        }
        for server in select(wanted) {
            let running =
                state.get(server.name()).context("internal error: a started server is not in the state file")?;
            self.wait_for_answer(server, running, began)?;
            if missing.iter().any(|started| started.name() == server.name()) {
                println!("{:<10}  up on 127.0.0.1:{} after {:.1?}", server.name(), running.port, began.elapsed());
            }
        }
        Ok(())
    }

    /// Starts `server` and records it at once, so that `down` finds it even after a failure.
    fn start(&self, server: &dyn Server, state: &mut State) -> Result<()> {
        let taken: Vec<u16> = state.iter().map(|running| running.port).collect();
        let offset = SERVERS.iter().position(|other| other.name() == server.name()).unwrap_or_default();
        let base = ports::base(self.dev.root(), offset);
        let port = ports::choose(base, |port| !taken.contains(&port) && ports::is_free(port))
            .context("no free loopback port in the range of the servers")?;
        let process = process::spawn(server.command(&self.dev, port)?, &self.dev.log(server.name())?)
            .with_context(|| format!("cannot start {}", server.name()))?;
        state.insert(Running { name: server.name().to_owned(), port, process });
        state.save()
    }

    fn wait_for_answer(&self, server: &dyn Server, running: &Running, began: Instant) -> Result<()> {
        let log = self.dev.log(server.name())?;
        let failed = |how: &str| {
            let end = dev::tail(&log);
            bail!("{} {how}; the last lines of {}:\n{end}", server.name(), log.display())
        };
        loop {
            // Checked first: the answer could come from another process that took the port earlier.
            if !running.process.is_alive() {
                return failed("ended before its first answer");
            }
            if server.answers(running.port) {
                return Ok(());
            }
            if began.elapsed() > START_LIMIT {
                return failed(&format!("did not answer within {START_LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops the wanted servers that `up` started, and no others.
    pub(crate) fn down(&self, wanted: &[&str]) -> Result<()> {
        let _lock = self.dev.lock()?;
        let mut state = State::load(&self.dev.state())?;
        let ours: Vec<(&dyn Server, Running)> = select(wanted)
            .filter_map(|server| Some((server as &dyn Server, state.get(server.name())?.clone())))
            .collect();
        if ours.is_empty() {
            println!("nothing to stop");
        }
        for (server, running) in &ours {
            process::signal(running.process, server.stop_signal())?;
        }
        for (server, running) in ours {
            let ending = process::wait_for_end(running.process)
                .with_context(|| format!("cannot stop {} (pid {})", server.name(), running.process.pid))?;
            println!("{:<10}  {ending}", server.name());
            state.remove(server.name());
            state.save()?;
        }
        Ok(())
    }

    /// A table of the wanted servers: name, state, pid, port, log.
    pub(crate) fn status(&self, wanted: &[&str]) -> Result<String> {
        let state = State::load(&self.dev.state())?;
        let mut table = format!("{:<10}  {:<13}  {:>7}  {:>5}  log\n", "server", "state", "pid", "port");
        for server in select(wanted) {
            let log = self.dev.log(server.name())?;
            let log = log.strip_prefix(self.dev.root()).unwrap_or(&log).display();
            let line = match state.get(server.name()) {
                None => format!("{:<10}  {:<13}  {:>7}  {:>5}  -\n", server.name(), "down", "-", "-"),
                Some(Running { port, process, .. }) => {
                    let word = match (process.is_alive(), server.answers(*port)) {
                        (false, _) => "gone",
                        (true, false) => "not answering",
                        (true, true) => "up",
                    };
                    format!("{:<10}  {word:<13}  {:>7}  {port:>5}  {log}\n", server.name(), process.pid)
                }
            };
            table.push_str(&line);
        }
        Ok(table)
    }

    /// The environment variables of the wanted servers. Fails when one of them does not run.
    pub(crate) fn variables(&self, wanted: &[&str]) -> Result<Vec<(&'static str, String)>> {
        let state = State::load(&self.dev.state())?;
        let mut variables = Vec::new();
        for server in select(wanted) {
            let Some(running) = state.get(server.name()).filter(|running| running.process.is_alive()) else {
                bail!("{} is not up; run `cargo xtask services up`", server.name());
            };
            variables.extend(server.variables(running.port, &self.dev.password()?));
        }
        if wanted.contains(&redis::Redis.name()) {
            variables.push(node::variable(&self.dev)?);
        }
        Ok(variables)
    }
}

/// Removes the wanted servers whose process has ended from `state`, and returns the wanted servers that must be
/// started.
fn forget_the_gone(state: &mut State, wanted: &[&str]) -> Vec<&'static dyn Server> {
    let mut missing: Vec<&'static dyn Server> = Vec::new();
    for server in select(wanted) {
        match state.get(server.name()) {
            Some(running) if running.process.is_alive() => continue,
            Some(running) => {
                println!("{:<10}  has ended (pid {}); starting it again", server.name(), running.process.pid);
                // PostgreSQL considers the owner of its lock file alive as long as the process has an entry, even as a
                // zombie.
                running.process.wait_for_burial();
                state.remove(server.name());
            }
            None => {}
        }
        missing.push(server);
    }
    missing
}

fn select(wanted: &[&str]) -> impl Iterator<Item = &'static (dyn Server + Sync)> {
    SERVERS.into_iter().filter(|server| wanted.contains(&server.name()))
}

/// The names of all servers.
pub(crate) fn all() -> Vec<&'static str> {
    SERVERS.iter().map(|server| server.name()).collect()
}

/// Parses `--only a,b` or `--only=a,b`; without it, returns all servers.
pub(crate) fn parse_only(arguments: &[&str]) -> Result<Vec<&'static str>> {
    let list = match arguments {
        [] => return Ok(all()),
        ["--only", list] => list,
        [one] if one.starts_with("--only=") => &one["--only=".len()..],
        _ => bail!("expected `--only LIST`, found `{}`", arguments.join(" ")),
    };
    list.split(',')
        .map(|name| {
            let known = SERVERS.iter().find(|server| server.name() == name.trim());
            known
                .map(|server| server.name())
                .with_context(|| format!("unknown server `{name}`; use one of {}", all().join(", ")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn without_only_every_server_is_returned() {
        assert_eq!(parse_only(&[]).unwrap(), ["postgres15", "postgres18", "redis", "neo4j"]);
    }

    #[test]
    fn only_takes_a_list_in_either_form() {
        assert_eq!(parse_only(&["--only", "redis,neo4j"]).unwrap(), ["redis", "neo4j"]);
        assert_eq!(parse_only(&["--only=postgres15"]).unwrap(), ["postgres15"]);
    }

    #[test]
    fn an_unknown_server_is_refused_by_name() {
        let error = parse_only(&["--only", "redis,mysql"]).unwrap_err().to_string();
        assert!(error.contains("mysql") && error.contains("postgres18"), "{error}");
        assert!(parse_only(&["--all"]).is_err());
    }
}
