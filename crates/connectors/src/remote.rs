//! Requirements on every connection that leaves this machine: verified TLS and credentials.

use std::net::IpAddr;

use chunk_sync_engine::ports::{Fault, FaultClass, Findings};
use chunk_sync_model::Time;
use tracing::warn;

/// Whether `host` is a loopback address or `localhost`. Accepts an IPv6 address with or without brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Adds the finding `link`. `strict` is the result of checking the configuration as if `allow_insecure` were off,
/// `allowed` the result with the configured value. Returns whether the caller may connect.
pub(crate) fn examine(findings: &mut Findings, strict: Result<(), Fault>, allowed: Result<(), Fault>) -> bool {
    match (strict, allowed) {
        (Ok(()), _) => findings.ok("link", "this machine, or verified TLS with credentials"),
        (Err(insecure), Ok(())) => findings.warning(
            "link",
            format!("permitted by allow_insecure only: {}", insecure.message),
            "chunks and credentials can be read on the network; use TLS and a password, and remove allow_insecure",
        ),
        (_, Err(fault)) => {
            findings.fault("link", &fault);
            return false;
        }
    }
    true
}

/// The current time of this machine's clock.
pub(crate) fn now() -> Time {
    jiff::Timestamp::now().into()
}

/// Handles a connection to another machine that lacks `missing`: logs a warning if `allowed`, else refuses it. `remedy`
/// completes "use …".
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured) if `allowed` is false. The message names the host, what is missing and
/// the remedy.
pub(crate) fn insecure(
    context: &'static str,
    host: &str,
    missing: &str,
    remedy: &str,
    allowed: bool,
) -> Result<(), Fault> {
    let message = format!(
        "the connection to `{host}` leaves this machine and has no {missing}; use {remedy}, or set \
         allow_insecure = true if the network is trusted"
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
