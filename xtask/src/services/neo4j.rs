//! Neo4j Community 5.26 from Maven. A development server; the project does not distribute it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::dev::Dev;
use super::{Server, download, process};

const VERSION: &str = "5.26.30";

/// Settings besides the port: little memory, no connections to the outside, and a quick stop.
const SETTINGS: [&str; 6] = [
    "server.http.enabled=false",
    "dbms.usage_report.enabled=false",
    "db.tx_log.preallocate=false",
    "server.memory.pagecache.size=64m",
    "internal.dbms.bolt.netty_server_shutdown_quiet_period=0",
    "internal.server.bolt.thread_pool_shutdown_wait_time=1s",
];

/// A small heap and the faster of the two JIT compilers, which never makes the best code.
const FOR_TESTS: [&str; 3] = ["-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1"];

/// Both JIT compilers.
const FOR_MEASUREMENTS: [&str; 2] = ["-Xms1g", "-Xmx1g"];

/// The internals of the JDK that Neo4j accesses.
const JVM: [&str; 6] = [
    "-XX:+UseSerialGC",
    "-Dlog4j2.disable.jmx=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
];

/// The Neo4j server.
pub(crate) struct Neo4j;

impl Server for Neo4j {
    fn name(&self) -> &'static str {
        "neo4j"
    }

    fn install(&self, dev: &Dev) -> Result<()> {
        download::maven(dev, &format!("neo4j-{VERSION}"), &pom()).map(drop)
    }

    /// Sets the password, which must happen before the first start.
    fn init(&self, dev: &Dev) -> Result<()> {
        let password = dev.password()?;
        download::once(&dev.data()?.join("neo4j"), |home| {
            std::fs::create_dir(home.join("conf"))?;
            std::fs::write(home.join("conf/neo4j.conf"), "")?;
            let mut command = java(dev)?;
            command.env("NEO4J_HOME", home).env("NEO4J_CONF", home.join("conf"));
            command.args(["org.neo4j.server.startup.Neo4jAdminCommand", "dbms", "set-initial-password", &password]);
            download::run(command)
        })
    }

    fn command(&self, dev: &Dev, port: u16) -> Result<Command> {
        let home = dev.data()?.join("neo4j");
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = java(dev)?;
        command.args(["org.neo4j.server.CommunityEntryPoint", "--console-mode"]);
        command.args([option("home-dir", &home), option("config-dir", &home.join("conf"))]);
        command.args(["-c", &format!("server.bolt.listen_address=127.0.0.1:{port}")]);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        Ok(command)
    }

    fn answers(&self, port: u16) -> bool {
        shake_hands(port).is_ok_and(|version| version != [0; 4])
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    fn variables(&self, port: u16, password: &str) -> Vec<(&'static str, String)> {
        vec![
            ("CHUNK_SYNC_TEST_NEO4J_URL", format!("bolt://127.0.0.1:{port}")),
            ("CHUNK_SYNC_TEST_NEO4J_USER", "neo4j".to_owned()),
            ("CHUNK_SYNC_TEST_NEO4J_PASSWORD", password.to_owned()),
        ]
    }
}

/// Java with Neo4j's classes and the flags of both its programs.
fn java(dev: &Dev) -> Result<Command> {
    let classes = dev.downloads()?.join(format!("neo4j-{VERSION}")).join("lib/*");
    let classes = classes.to_str().context("the path of the workspace is not valid Unicode")?.to_owned();
    let mut command = Command::new("java");
    let purpose = if dev.is_measuring() { &FOR_MEASUREMENTS[..] } else { &FOR_TESTS };
    command.args(purpose).args(JVM).args(["-cp", &classes]);
    Ok(command)
}

fn pom() -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>chunk-sync</groupId>
  <artifactId>neo4j-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.neo4j</groupId>
      <artifactId>neo4j</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}

/// Starts a Bolt handshake that offers 5.0 and 4.4. Returns the version that the server chose, zeros for none.
fn shake_hands(port: u16) -> std::io::Result<[u8; 4]> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(process::ANSWER_LIMIT))?;
    stream.write_all(&[0x60, 0x60, 0xB0, 0x17, 0, 0, 0, 5, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0])?;
    let mut version = [0; 4];
    stream.read_exact(&mut version)?;
    Ok(version)
}
