//! Checks the Host header against DNS rebinding. A foreign web page can make its own host name resolve to this machine
//! and so reach a service that listens on loopback only. The browser then sends that foreign name as Host.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::Response;

use super::Context;
use super::refusal::Refusal;

/// Middleware: passes the request on if Host header and target name this service.
///
/// # Errors
/// [`Refusal::NoHost`] unless there is exactly one valid Host header; [`Refusal::WrongHost`] for another name.
pub(super) async fn check(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let named = named(&request)?;
    // A target such as `http://name/path` is checked in addition to the header.
    let target = request.uri().authority().map(|authority| authority.host().to_owned());
    match [Some(named), target].into_iter().flatten().find(|host| !is_ours(host, &context.app.http.hosts)) {
        Some(foreign) => Err(Refusal::WrongHost(foreign)),
        None => Ok(next.run(request).await),
    }
}

/// The host in the Host header, without the port.
fn named(request: &Request) -> Result<String, Refusal> {
    let mut headers = request.headers().get_all(HOST).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(Refusal::NoHost);
    };
    let authority: Authority = header.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Refusal::NoHost)?;
    if authority.as_str().contains('@') {
        return Err(Refusal::NoHost);
    }
    Ok(authority.host().to_owned())
}

/// Whether `host` is an IP address (DNS rebinding needs a name), `localhost` or below it, or a configured name.
fn is_ours(host: &str, configured: &[String]) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || configured.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_accepted_and_no_similar_names() {
        let configured = ["sync.example.org".to_owned()];
        for ours in ["localhost", "LocalHost.", "a.localhost", "127.0.0.1", "10.1.2.3", "[::1]", "Sync.Example.org"] {
            assert!(is_ours(ours, &configured), "{ours}");
        }
        for foreign in [
            "localhost.evil.com",
            "evil.com",
            "notlocalhost",
            "sync.example.org.evil.com",
            "127.0.0.1.evil.com",
            "",
            ".",
        ] {
            assert!(!is_ours(foreign, &configured), "{foreign}");
        }
    }
}
