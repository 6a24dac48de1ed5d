//! What is asked of a connection to another machine, the same of every server: verified TLS, and credentials.

use std::net::IpAddr;

use chunk_sync_engine::ports::{Fault, FaultClass};
use tracing::warn;

/// Whether the host is this machine; an IPv6 address may stand in brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
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
