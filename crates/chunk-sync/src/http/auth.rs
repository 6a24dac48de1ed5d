//! Bearer token authentication. Changing anything requires a configured token. If a token is configured, reading requires
//! it too; only metrics, health without details and the files of the page do not.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::connections::Connection;
use super::refusal::Refusal;
use super::{Context, rates};

/// Middleware: passes the request on if no token is configured or the request has the right one.
pub(super) async fn where_configured(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    match context.check_token(request.headers(), rates::of(&request)) {
        Ok(()) | Err(Refusal::NoToken) => Ok(next.run(request).await),
        Err(refusal) => Err(refusal),
    }
}

/// Middleware: passes the request on if it has the configured token.
pub(super) async fn always(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    context.check_token(request.headers(), rates::of(&request))?;
    Ok(next.run(request).await)
}

impl Context {
    /// Compares the token that a request presents, and counts a wrong one.
    ///
    /// # Errors
    /// As [`check`]; [`Refusal::TooManyGuesses`] if its address has sent too many wrong tokens and never a right one.
    pub(super) fn check_token(&self, headers: &HeaderMap, connection: Connection) -> Result<(), Refusal> {
        let presented = headers.contains_key(AUTHORIZATION);
        if presented {
            self.rates.may_guess(connection.peer)?;
        }
        let checked = check(self.app.http.token.as_ref(), headers);
        match &checked {
            Ok(()) => self.rates.guessed_right(connection.peer),
            Err(Refusal::WrongToken) if presented => self.rates.guessed_wrong(connection.peer)?,
            Err(_) => {}
        }
        checked
    }

    /// Whether the client of a request may see more than whether the service works: texts of faults name hosts, users and
    /// chunks. Without a token the service listens on loopback only.
    pub(super) fn shows_details(&self, request: &Request) -> bool {
        let checked = self.check_token(request.headers(), rates::of(request));
        matches!(checked, Ok(()) | Err(Refusal::NoToken))
    }
}

/// Checks the `Authorization` header against the configured token.
///
/// # Errors
/// [`Refusal::NoToken`] if none is configured; [`Refusal::WrongToken`] if the header is missing or differs.
fn check(token: Option<&SecretString>, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = token.ok_or(Refusal::NoToken)?.expose_secret();
    let presented = presented(headers).ok_or(Refusal::WrongToken)?;
    // Constant time: the duration reveals the length of the token only, not where the two differ.
    if bool::from(presented.ct_eq(token.as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
