//! The state file, in which a call records the servers that it started: one line per server, `name port pid started`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::process::Identity;

/// A server that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// The name of the server.
    pub(crate) name: String,
    /// The loopback port that it listens on.
    pub(crate) port: u16,
    /// Its process, which may have ended.
    pub(crate) process: Identity,
}

/// All servers that were started and not stopped.
pub(crate) struct State {
    path: PathBuf,
    servers: Vec<Running>,
}

impl State {
    /// Reads `path`. A missing file means that no server was started.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let servers = parse(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        Ok(Self { path: path.to_owned(), servers })
    }

    /// Replaces the file atomically, so that no reader sees a partial file.
    pub(crate) fn save(&self) -> Result<()> {
        let next = self.path.with_extension("new");
        fs::write(&next, render(&self.servers))
            .and_then(|()| fs::rename(&next, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Running> {
        self.servers.iter()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Running> {
        self.servers.iter().find(|running| running.name == name)
    }

    pub(crate) fn insert(&mut self, running: Running) {
        self.remove(&running.name);
        self.servers.push(running);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.servers.retain(|running| running.name != name);
    }
}

fn render(servers: &[Running]) -> String {
    let line =
        |Running { name, port, process }: &Running| format!("{name} {port} {} {}\n", process.pid, process.started);
    servers.iter().map(line).collect()
}

fn parse(text: &str) -> Result<Vec<Running>> {
    text.lines()
        .map(|line| parse_line(line).with_context(|| format!("the line `{line}` is not `name port pid started`")))
        .collect()
}

fn parse_line(line: &str) -> Option<Running> {
    let [name, port, pid, started] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let process = Identity { pid: pid.parse().ok()?, started: started.parse().ok()? };
    Some(Running { name: name.to_owned(), port: port.parse().ok()?, process })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample() -> Vec<Running> {
        vec![
            Running { name: "redis".into(), port: 20_001, process: Identity { pid: 12, started: 345 } },
            Running { name: "neo4j".into(), port: 20_002, process: Identity { pid: u32::MAX, started: u64::MAX } },
        ]
    }

    #[test]
    fn a_written_state_is_read_back() {
        assert_eq!(parse(&render(&sample())).unwrap(), sample());
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_line_that_is_not_a_server_is_named() {
        for line in ["redis", "redis 1 2", "redis 1 2 3 4", "redis 99999 2 3", "redis 1 -2 3"] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn a_restarted_server_replaces_its_line() {
        let mut state = State { path: PathBuf::new(), servers: sample() };
        state.insert(Running { name: "redis".into(), port: 7, process: Identity { pid: 8, started: 9 } });
        assert_eq!(state.iter().count(), 2);
        assert_eq!(state.get("redis").unwrap().port, 7);
        state.remove("redis");
        assert_eq!(state.get("redis"), None);
    }
}
