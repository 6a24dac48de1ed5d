//! A PostgreSQL of a test's own, for settings that the shared servers do not have: 15 with Debian's programs, or another with
//! those of a shared server. Loopback, an empty directory. Dropping the value ends it.
#![allow(dead_code, reason = "each test that includes it uses a part")]

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use chunk_sync_testkit::eventually;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

pub(crate) const PASSWORD: &str = "of-the-test";

/// The directory of the programs, and user and group that the server runs as if this process is root, as which PostgreSQL
/// does not run.
#[derive(Clone)]
struct Account {
    programs: PathBuf,
    ids: Option<(u32, u32)>,
}

impl Account {
    fn find(programs: &Path) -> Self {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = accounts.lines().find(|line| line.starts_with("postgres:"));
        let ids = line.map(|line| line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect::<Vec<u32>>());
        Self { programs: programs.to_owned(), ids: ids.filter(|_| is_root).map(|ids| (ids[0], ids[1])) }
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let Some((user, group)) = self.ids else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]).arg(program);
        command
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.ids {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

pub(crate) struct OwnServer {
    account: Account,
    directory: PathBuf,
    process: Option<Child>,
    pub(crate) port: u16,
}

impl OwnServer {
    /// An initialised server that does not run yet, with these lines of `pg_hba.conf`.
    pub(crate) fn new(rules: &str) -> Self {
        Self::by(Path::new(PROGRAMS), rules)
    }

    /// The same with the programs in this directory.
    pub(crate) fn by(programs: &Path, rules: &str) -> Self {
        let server = Self::empty(Account::find(programs));
        let secret = server.write("password", PASSWORD);
        let mut command = server.account.command("initdb");
        command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        server.done(command.arg("--pwfile").arg(secret).arg("--pgdata").arg(server.data()));
        std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        server
    }

    /// A standby of `primary`.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let server = Self::empty(primary.account.clone());
        let mut command = server.account.command("pg_basebackup");
        command
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname"])
            .arg(primary.url("postgres"));
        server.done(command.arg("--pgdata").arg(server.data()));
        server
    }

    fn empty(account: Account) -> Self {
        let directory = std::env::temp_dir().join(format!("chunk_sync_server_{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).unwrap();
        account.give(&directory);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Self { account, directory, process: None, port }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn done(&self, command: &mut Command) {
        let output = command.current_dir("/").output().expect("install the Debian package postgresql-15");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes a file that the server may read, and only it.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        self.account.give(&path);
        path
    }

    /// Starts the server with these settings; ends it before, if it runs.
    pub(crate) async fn start(&mut self, settings: &[&str]) {
        self.stop();
        let mut command = self.account.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        let log = self.directory.join("log");
        let output = std::fs::File::create(&log).unwrap();
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        self.process = Some(command.spawn().unwrap());
        let url = self.url("postgres");
        let with_log = |error| format!("{error}: {}", std::fs::read_to_string(&log).unwrap_or_default());
        eventually(|| async { tokio_postgres::connect(&url, NoTls).await.map(drop).map_err(with_log) }).await;
    }

    /// Fast shutdown.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    /// Copies the data directory of the stopped server.
    pub(crate) fn copied(&self) -> PathBuf {
        assert!(self.process.is_none(), "the server runs");
        let copy = self.directory.join("copy");
        self.done(Command::new("cp").arg("-a").args([&self.data(), &copy]));
        copy
    }

    /// Puts a copy in the place of the data directory of the stopped server.
    pub(crate) fn put_back(&self, copy: &Path) {
        assert!(self.process.is_none(), "the server runs");
        std::fs::remove_dir_all(self.data()).unwrap();
        std::fs::rename(copy, self.data()).unwrap();
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
