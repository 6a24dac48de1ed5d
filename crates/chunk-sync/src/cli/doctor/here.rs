//! The checks of this machine: the directory of the log, the free space on its disk, the modes of the files, and the HTTP
//! address.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chunk_sync_engine::ports::{Finding, Findings};
use chunk_sync_wal::{holder, inspect};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::cli::status::running;
use crate::cli::wal::{free, size};
use crate::config::{Config, Http};

/// Time limit for the answer of a running service.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the checks.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let (dir, max) = (config.settings.wal.dir.clone(), config.settings.wal.max_bytes);
    let mut private = vec![dir.clone()];
    private.extend(config.roles.has_file().then(|| config.roles.dir.clone()));
    let log = tokio::task::spawn_blocking(move || {
        let mut found = log(&dir, max);
        found.extend(modes(&private));
        found
    });
    let (mut findings, http) = (Findings::of("http"), &config.http);
    address(&mut findings, http).await;
    let mut found = log.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    found.extend(findings.into_list());
    found
}

/// Checks the directory of the log. Blocks.
fn log(dir: &Path, max: u64) -> Vec<Finding> {
    let mut findings = Findings::of("log");
    let shown = dir.display();
    let there = dir.ancestors().find(|dir| dir.exists()).filter(|dir| !dir.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    match (tempfile::tempfile_in(there), holder(dir)) {
        (Err(error), _) => findings.failed(
            "directory",
            format!("cannot write to {}: {error}", there.display()),
            format!("give this user write permission on {shown}, or set another directory in wal.dir"),
        ),
        (Ok(_), Ok(Some(process))) => {
            let process = process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
            findings.ok("directory", format!("{shown}, in use by {process}"));
        }
        (Ok(_), Ok(None)) if dir.is_dir() => findings.ok("directory", format!("{shown} is writable")),
        (Ok(_), Ok(None)) => findings.ok("directory", format!("{shown} is created at the first start")),
        (Ok(_), Err(error)) => {
            findings.failed("directory", error.to_string(), "give this user read and write permission on it");
        }
    }
    room(&mut findings, dir, max);
    findings.into_list()
}

/// Names the files and directories that other users of the machine can read or write: log and embedded file hold the text
/// of the chunks. Blocks.
fn modes(dirs: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Findings::of("files");
    let mut dirs: Vec<&PathBuf> = dirs.iter().filter(|dir| dir.is_dir()).collect();
    dirs.sort();
    // A directory inside another is walked with it.
    dirs.dedup_by(|inner, outer| inner.starts_with(outer));
    for dir in dirs {
        let mut loose = Vec::new();
        if let Err(error) = collect_loose(dir, &mut loose) {
            let remedy = "make it readable for this user";
            findings.warning("modes", format!("cannot list {}: {error}", dir.display()), remedy);
        }
        match loose.first() {
            None => findings.ok("modes", format!("only this user can read {}", dir.display())),
            Some(first) => findings.warning(
                "modes",
                format!(
                    "other users can access {}, beginning with {}",
                    crate::cli::output::count(loose.len() as u64, "path"),
                    first.display()
                ),
                format!("chmod -R u=rwX,go= {}", dir.display()),
            ),
        }
    }
    findings.into_list()
}

/// Appends the directory and what is in it, as far as group or others have any right. Follows no symbolic link but `dir`.
fn collect_loose(dir: &Path, loose: &mut Vec<PathBuf>) -> io::Result<()> {
    let is_loose = |found: &std::fs::Metadata| found.permissions().mode() & 0o077 != 0;
    if is_loose(&std::fs::metadata(dir)?) {
        loose.push(dir.to_owned());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => collect_loose(&path, loose)?,
            Ok(found) if found.is_file() && is_loose(&found) => loose.push(path),
            Ok(_) => {}
            // Removed after the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Compares the space that the log may still take with the free space on its disk.
fn room(findings: &mut Findings, dir: &Path, max: u64) {
    let report = if dir.is_dir() { inspect(dir).ok() } else { None };
    let used = report.as_ref().map_or(0, |report| report.bytes);
    let left = max.saturating_sub(used);
    match free(dir) {
        Some(free) if free < left => findings.warning(
            "room",
            format!("the log may grow by {}, and its disk has {} free", size(left), size(free)),
            "free disk space, or lower wal.max_bytes: a full disk stops the service, a full log only makes it wait",
        ),
        Some(free) => findings.ok("room", format!("{} used, {} free on its disk", size(used), size(free))),
        None => findings.warning("room", "the free space of the disk is unknown", "check it with df"),
    }
    if let Some(report) = report.filter(|report| !report.damaged.is_empty()) {
        findings.warning(
            "lines",
            format!("{} damaged", report.damaged.len()),
            "run `chunk-sync wal check` to locate them, and check the disk",
        );
    }
}

async fn address(findings: &mut Findings, http: &Http) {
    let listen = http.listen;
    match timeout(PATIENCE, running(http)).await {
        Ok(Ok(Some(status))) if status.ready => {
            findings.ok("address", format!("chunk-sync {} runs on {listen} and is ready", status.version));
        }
        Ok(Ok(Some(status))) => findings.warning(
            "address",
            format!(
                "chunk-sync {} runs on {listen} and is not ready: {}",
                status.version,
                status.waiting_for.join("; ")
            ),
            "run `chunk-sync status` for details",
        ),
        Ok(Ok(None)) => match TcpListener::bind(listen).await {
            Ok(_) => findings.ok("address", format!("{listen} is free")),
            Err(error) => findings.failed("address", cannot(listen, &error), "set another address in http.listen"),
        },
        Ok(Err(failure)) => {
            findings.failed(
                "address",
                failure.text(),
                "stop the process that listens there, or set another address in http.listen",
            );
        }
        Err(_) => findings.failed(
            "address",
            format!("no answer from the process that listens on {listen}"),
            "stop the process that listens there, or set another address in http.listen",
        ),
    }
    if http.token.is_some() && !listen.ip().is_loopback() {
        findings.warning(
            "link",
            format!("{listen} is reachable from other machines, and the token is sent in clear text"),
            "listen on loopback, behind a proxy that terminates TLS",
        );
    }
}

fn cannot(listen: std::net::SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {listen}: {error}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chunk_sync_engine::ports::Level;

    use super::*;

    fn levels(findings: &[Finding]) -> Vec<(&'static str, Level)> {
        findings.iter().map(|finding| (finding.subject, finding.level)).collect()
    }

    #[test]
    fn a_missing_directory_is_ok_if_it_can_be_created() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        assert_eq!(levels(&log(&dir, 1)), [("directory", Level::Ok), ("room", Level::Ok)]);
        assert!(!dir.exists(), "nothing is created");
        assert_eq!(levels(&log(&dir, u64::MAX))[1], ("room", Level::Warning));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(levels(&log(&root.path().join("file/wal"), 1))[0], ("directory", Level::Failed));
    }

    #[test]
    fn files_that_other_users_can_read_are_named() {
        let root = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (dir, file) = (root.path().join("wal"), root.path().join("wal/wal_20260101_00.jsonl"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&file, "").unwrap();
        for (directory_mode, file_mode, level) in
            [(0o700, 0o600, Level::Ok), (0o755, 0o600, Level::Warning), (0o700, 0o640, Level::Warning)]
        {
            set(root.path(), 0o700);
            set(&dir, directory_mode);
            set(&file, file_mode);
            let found = modes(&[dir.clone(), root.path().to_owned()]);
            assert_eq!(levels(&found), [("modes", level)], "{directory_mode:o} {file_mode:o}");
        }
        let found = modes(&[dir]);
        assert!(found[0].text.contains("wal_20260101_00.jsonl"), "{}", found[0].text);
        assert!(found[0].remedy.as_deref().is_some_and(|remedy| remedy.starts_with("chmod -R u=rwX,go= ")));
    }

    #[tokio::test]
    async fn an_address_in_use_by_another_program_fails() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = |listen| Http { listen, token: None, hosts: Vec::new(), requests_per_second: 0 };
        let address = async |listen| {
            let mut findings = Findings::of("http");
            address(&mut findings, &http(listen)).await;
            findings.into_list().remove(0).level
        };
        let listen = taken.local_addr().unwrap();
        // It closes every connection at once.
        let hanging_up = tokio::spawn(async move { taken.accept().await.map(drop) });
        assert_eq!(address(listen).await, Level::Failed);
        hanging_up.await.unwrap().unwrap();
        assert_eq!(address(listen).await, Level::Ok);
    }
}
