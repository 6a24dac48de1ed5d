//! What this machine has to bring: a directory for the log with room on its disk, and an address for HTTP.

use std::io;
use std::path::Path;
use std::time::Duration;

use chunk_sync_engine::ports::{Finding, Findings};
use chunk_sync_wal::{holder, inspect};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::cli::status::running;
use crate::cli::wal::{free, size};
use crate::config::{Config, Http};

/// A service that listens answers in less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at them.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let (dir, max) = (config.settings.wal.dir.clone(), config.settings.wal.max_bytes);
    let log = tokio::task::spawn_blocking(move || log(&dir, max));
    let (mut findings, http) = (Findings::of("http"), &config.http);
    address(&mut findings, http).await;
    let mut found = log.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    found.extend(findings.into_list());
    found
}

/// The directory of the log. Blocks.
fn log(dir: &Path, max: u64) -> Vec<Finding> {
    let mut findings = Findings::of("log");
    let shown = dir.display();
    let there = dir.ancestors().find(|dir| dir.exists()).filter(|dir| !dir.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    match (tempfile::tempfile_in(there), holder(dir)) {
        (Err(error), _) => findings.failed(
            "directory",
            format!("nothing can be written to {}: {error}", there.display()),
            format!("let this user write to {shown}, or name another directory in wal.dir"),
        ),
        (Ok(_), Ok(Some(process))) => {
            let process = process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
            findings.ok("directory", format!("{shown}, {process} writes it"));
        }
        (Ok(_), Ok(None)) if dir.is_dir() => findings.ok("directory", format!("{shown} can be written")),
        (Ok(_), Ok(None)) => findings.ok("directory", format!("{shown} is made at the first start")),
        (Ok(_), Err(error)) => findings.failed("directory", error.to_string(), "let this user read and write it"),
    }
    room(&mut findings, dir, max);
    findings.into_list()
}

/// What the log may still take, against what its disk has.
fn room(findings: &mut Findings, dir: &Path, max: u64) {
    let report = if dir.is_dir() { inspect(dir).ok() } else { None };
    let used = report.as_ref().map_or(0, |report| report.bytes);
    let left = max.saturating_sub(used);
    match free(dir) {
        Some(free) if free < left => findings.warning(
            "room",
            format!("the log may still take {}, and its disk has {}", size(left), size(free)),
            "make room, or lower wal.max_bytes: a full disk stops the service, a full log only makes it wait",
        ),
        Some(free) => findings.ok("room", format!("{} used, {} free on its disk", size(used), size(free))),
        None => findings.warning("room", "how much the disk has cannot be told", "look with df"),
    }
    if let Some(report) = report.filter(|report| !report.damaged.is_empty()) {
        findings.warning(
            "lines",
            format!("{} are damaged", report.damaged.len()),
            "`chunk-sync wal check` says where; look after the disk",
        );
    }
}

async fn address(findings: &mut Findings, http: &Http) {
    let listen = http.listen;
    match timeout(PATIENCE, running(http)).await {
        Ok(Ok(Some(status))) if status.ready => {
            findings.ok("address", format!("chunk-sync {} runs on {listen}, and is ready", status.version));
        }
        Ok(Ok(Some(status))) => findings.warning(
            "address",
            format!(
                "chunk-sync {} runs on {listen}, and is not ready: {}",
                status.version,
                status.waiting_for.join("; ")
            ),
            "`chunk-sync status` says more",
        ),
        Ok(Ok(None)) => match TcpListener::bind(listen).await {
            Ok(_) => findings.ok("address", format!("{listen} is free")),
            Err(error) => findings.failed("address", cannot(listen, &error), "name another one in http.listen"),
        },
        Ok(Err(failure)) => {
            findings.failed("address", failure.text(), "end what has it, or name another in http.listen");
        }
        Err(_) => findings.failed(
            "address",
            format!("whoever listens on {listen} does not answer"),
            "end what has it, or name another one in http.listen",
        ),
    }
    if http.token.is_some() && !listen.ip().is_loopback() {
        findings.warning(
            "link",
            format!("{listen} is open to other machines, and the token comes over it in the clear"),
            "listen on loopback, and let a proxy with TLS speak to other machines",
        );
    }
}

fn cannot(listen: std::net::SocketAddr, error: &io::Error) -> String {
    format!("{listen} cannot be listened on: {error}")
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
    fn a_directory_that_is_not_there_yet_is_made_where_that_can_be() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        assert_eq!(levels(&log(&dir, 1)), [("directory", Level::Ok), ("room", Level::Ok)]);
        assert!(!dir.exists(), "nothing is created");
        assert_eq!(levels(&log(&dir, u64::MAX))[1], ("room", Level::Warning));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(levels(&log(&root.path().join("file/wal"), 1))[0], ("directory", Level::Failed));
    }

    #[tokio::test]
    async fn an_address_that_another_has_is_said() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = |listen| Http { listen, token: None, hosts: Vec::new() };
        let address = async |listen| {
            let mut findings = Findings::of("http");
            address(&mut findings, &http(listen)).await;
            findings.into_list().remove(0).level
        };
        let listen = taken.local_addr().unwrap();
        // It hangs up on whoever calls.
        let hanging_up = tokio::spawn(async move { taken.accept().await.map(drop) });
        assert_eq!(address(listen).await, Level::Failed);
        hanging_up.await.unwrap().unwrap();
        assert_eq!(address(listen).await, Level::Ok);
    }
}
