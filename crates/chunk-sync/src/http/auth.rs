//! Bearer token authentication. Publishing requires a configured token. If a token is configured, reading the status
//! and the event stream requires it too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::Context;
use super::refusal::Refusal;

/// Middleware: passes the request on if no token is configured or the request has the right one.
pub(super) async fn where_configured(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    match check(context.app.http.token.as_ref(), request.headers()) {
        Ok(()) | Err(Refusal::NoToken) => Ok(next.run(request).await),
        Err(refusal) => Err(refusal),
    }
}

/// Checks the `Authorization` header against the configured token.
///
/// # Errors
/// [`Refusal::NoToken`] if none is configured; [`Refusal::WrongToken`] if the header is missing or differs.
pub(super) fn check(token: Option<&SecretString>, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = token.ok_or(Refusal::NoToken)?.expose_secret();
    let presented = presented(headers).ok_or(Refusal::WrongToken)?;
    // Constant time: the duration reveals the length of the token only, not where the two differ.
    if bool::from(presented.ct_eq(token.as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
