//! Redis, from Debian: append-only file on, no snapshots, no password.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::dev::Dev;
use super::{Server, download, node, process};

/// The Redis server.
pub(crate) struct Redis;

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn install(&self, dev: &Dev) -> Result<()> {
        // With the clients of the guide on publishing, whose examples the live tests run.
        let has = |program: &str| download::find_program(program).is_some();
        download::debian(&["redis-server", "redis-tools", "python3-redis", "curl"], || {
            has("redis-server") && has("redis-cli") && has("curl") && python_has_redis()
        })?;
        node::install(dev)
    }

    fn init(&self, dev: &Dev) -> Result<()> {
        let home = dev.data()?.join("redis");
        std::fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))
    }

    fn command(&self, dev: &Dev, port: u16) -> Result<Command> {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--save",
            "",
            "--dir",
        ]);
        command.arg(dev.data()?.join("redis"));
        Ok(command)
    }

    fn answers(&self, port: u16) -> bool {
        ping(port).is_ok_and(|answer| answer == *b"+PONG")
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    fn variables(&self, port: u16, _: &str) -> Vec<(&'static str, String)> {
        vec![("CHUNK_SYNC_TEST_REDIS_URL", format!("redis://127.0.0.1:{port}/0"))]
    }
}

/// Whether Debian's Python has Debian's client.
fn python_has_redis() -> bool {
    Command::new("/usr/bin/python3").args(["-c", "import redis"]).output().is_ok_and(|output| output.status.success())
}

fn ping(port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(process::ANSWER_LIMIT))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
