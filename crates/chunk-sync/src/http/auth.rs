//! The bearer token: without one nothing is published; once one is configured, who looks must bring it too.

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

/// Lets pass where no token is configured, or the right one was brought.
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

/// Whether the headers bring the configured token.
pub(super) fn check(token: Option<&SecretString>, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = token.ok_or(Refusal::NoToken)?.expose_secret();
    let brought = brought(headers).ok_or(Refusal::WrongToken)?;
    // Takes as long wherever the two differ; only the length shows.
    if bool::from(brought.ct_eq(token.as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn brought(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
