//! What a connection string takes from the machine: variables, the home directory, files, the user.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::Refused;

/// The machine as it is, or as a test describes it.
#[derive(Clone, Debug, Default)]
pub(in crate::postgres) struct Surroundings {
    pub(in crate::postgres) variables: BTreeMap<String, String>,
    pub(in crate::postgres) home: Option<PathBuf>,
    pub(in crate::postgres) user: Option<String>,
    /// The directory of the default socket.
    pub(in crate::postgres) sockets: PathBuf,
}

impl Surroundings {
    /// Reads the variables of this process and the account that it runs as.
    pub(in crate::postgres) fn here() -> Self {
        let variables: BTreeMap<_, _> = std::env::vars().filter(|(_, value)| !value.is_empty()).collect();
        let home = variables.get("HOME").map(PathBuf::from);
        // The first is the directory of Debian's and Red Hat's packages, the second that of PostgreSQL itself.
        let sockets = ["/var/run/postgresql", "/tmp"].map(Path::new);
        let sockets = sockets.into_iter().find(|directory| directory.is_dir()).unwrap_or(sockets[1]).to_owned();
        Self { user: account(), variables, home, sockets }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A file of `~/.postgresql`, if it exists.
    pub(super) fn default_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.home.as_ref()?.join(".postgresql").join(name);
        path.is_file().then_some(path)
    }

    /// The text of the password file; `None` if it does not exist or is open to others, which libpq ignores as well.
    pub(super) fn passwords(&self, named: Option<&str>) -> Option<String> {
        let path = named.map(PathBuf::from).or_else(|| Some(self.home.as_ref()?.join(".pgpass")))?;
        let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            warn!(path = %path.display(), "ignoring the password file, which others may read; chmod 0600 it");
            return None;
        }
        std::fs::read_to_string(&path).ok()
    }

    /// The service files that exist, in the order in which they are searched.
    pub(super) fn services(&self, named: Option<&str>) -> Result<Vec<String>, Refused> {
        if let Some(path) = named {
            let text = std::fs::read_to_string(path);
            return Ok(vec![text.map_err(|error| Refused(format!("cannot read the service file {path}: {error}")))?]);
        }
        let own = self.home.as_ref().map(|home| home.join(".pg_service.conf"));
        let common = self.variable("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
        let paths = own.into_iter().chain([Path::new(common).join("pg_service.conf")]);
        Ok(paths.filter_map(|path| std::fs::read_to_string(path).ok()).collect())
    }
}

/// The name of the account that this process runs as.
fn account() -> Option<String> {
    let id = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    })
}
