//! The paths in `.dev/` of a checkout: downloads, data, logs, the password and the state file. Not here: their
//! contents.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The development directory of one checkout.
pub(crate) struct Dev {
    root: PathBuf,
    measuring: bool,
}

impl Dev {
    /// The development directory of the workspace at `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), measuring: false }
    }

    /// The same; servers are started for measurements, not for tests.
    pub(crate) fn measuring(root: &Path) -> Self {
        Self { measuring: true, ..Self::new(root) }
    }

    /// Whether servers are started for measurements.
    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring
    }

    /// The root of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file with the running servers.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("services")
    }

    /// The directory of programs that no package manager installs; kept between runs.
    pub(crate) fn downloads(&self) -> Result<PathBuf> {
        self.directory("downloads")
    }

    /// The directory with the servers' data. Removing it while all servers are down resets them.
    pub(crate) fn data(&self) -> Result<PathBuf> {
        self.directory("data")
    }

    /// The log of the server called `name`.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        Ok(self.directory("log")?.join(format!("{name}.log")))
    }

    /// The lock that every call holds while it starts or stops servers.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.directory("")?.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// The password of this checkout's servers, generated on first use. It is stored with the data that it belongs to.
    pub(crate) fn password(&self) -> Result<String> {
        let path = self.data()?.join("password");
        match fs::read_to_string(&path) {
            Ok(password) => Ok(password),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let password = random_hex()?;
                write_private(&path, &password)?;
                Ok(password)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(".dev").join(name)
    }
}

/// Writes a file with mode 0600.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    match fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), LINES),
        Err(error) => format!("(cannot read the log: {error})"),
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_short_log_is_all_of_it() {
        assert_eq!(last_lines("a\nb\n", 15), "a\nb");
        assert_eq!(last_lines("", 15), "");
    }

    #[test]
    fn the_tail_of_a_long_log_is_its_end() {
        assert_eq!(last_lines("a\nb\nc\nd\n", 2), "c\nd");
    }
}
