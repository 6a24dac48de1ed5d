//! What is asked of a connection to another machine, the same of every server: verified TLS, and credentials.

use std::net::IpAddr;

use chunk_sync_engine::ports::{Fault, FaultClass, Findings};
use chunk_sync_model::Time;
use tracing::warn;

/// Whether the host is this machine; an IPv6 address may stand in brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What an examination says of how a server is reached: `strict` and `allowed` are the configuration's verdicts without and
/// with `allow_insecure`. Whether to go on.
pub(crate) fn examine(findings: &mut Findings, strict: Result<(), Fault>, allowed: Result<(), Fault>) -> bool {
    match (strict, allowed) {
        (Ok(()), _) => findings.ok("link", "this machine, or verified TLS with credentials"),
        (Err(insecure), Ok(())) => findings.warning(
            "link",
            format!("allowed by allow_insecure, though {}", insecure.message),
            "whoever can read the network reads chunks and credentials: use TLS and a password, and drop allow_insecure",
        ),
        (_, Err(fault)) => {
            findings.fault("link", &fault);
            return false;
        }
    }
    true
}

/// What time it is here.
pub(crate) fn now() -> Time {
    jiff::Timestamp::now().into()
}

/// Refuses a connection to another machine that lacks `missing`, or warns of it where it is allowed.
pub(crate) fn insecure(
    context: &'static str,
    host: &str,
    missing: &str,
    remedy: &str,
    allowed: bool,
) -> Result<(), Fault> {
    let message = format!(
        "{host} is another machine, and the connection has no {missing}: use {remedy}, or set allow_insecure = true \
         where the network is trusted"
    );
    if allowed {
        warn!("{message}");
        return Ok(());
    }
    Err(Fault::new(FaultClass::Misconfigured, context, message))
}

/// The name of this machine, in characters that stand in any report or key; `host` where it has none.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.trim().chars().map(plain).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}
