//! The refusals of requests and their status codes. The body of a refusal is JSON: `{"error": …}`, with `line` and
//! `column` for invalid JSON.

use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chunk_sync_engine::ports::{EntryId, Fault, FaultClass};
use serde_json::json;
use uuid::Uuid;

use super::json::Json;

/// Maximum number of events in one body.
pub(super) const MAX_EVENTS: usize = 1_000;

/// Maximum size of a body, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The value of `Retry-After`, in seconds, if nothing else is known.
const RETRY_SECONDS: u64 = 2;

/// Whole seconds, rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs_f64().ceil().max(1.0) as u64
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not found: `{0}`; the status page is at /")]
    NotFound(String),
    #[error("`{1}` does not support {0}; use a method that the header Allow lists")]
    WrongMethod(Method, String),
    #[error("the request has no valid Host header, or several; send exactly one")]
    NoHost,
    #[error(
        "the host name `{0}` is not accepted; use an IP address or localhost, or add the name to http.hosts \
         (CHUNK_SYNC__HTTP__HOSTS)"
    )]
    WrongHost(String),
    #[error(
        "no token is configured, and publishing over HTTP requires one; set http.token (CHUNK_SYNC__HTTP__TOKEN) to at \
         least 16 characters, for example the output of `openssl rand -hex 32`, and restart the service"
    )]
    NoToken,
    #[error("missing or wrong token; send the value of http.token in the header `Authorization: Bearer …`")]
    WrongToken,
    #[error("too many wrong tokens from this address; retry after {} s", seconds(*.0))]
    TooManyGuesses(Duration),
    #[error("too many requests from this address; retry after {} s, or raise http.requests_per_second", seconds(*.0))]
    TooManyRequests(Duration),
    #[error("too many connections are open; only health is answered on this one; retry later")]
    TooManyConnections,
    #[error("unsupported content type `{0}`; use application/json or application/x-ndjson")]
    WrongType(String),
    #[error("unsupported content encoding `{0}`; send the body without Content-Encoding")]
    WrongEncoding(String),
    #[error("the body is larger than {} MiB; split it into several requests", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("the body has more than {MAX_EVENTS} events; split it into several requests")]
    TooMany,
    #[error("the body did not arrive completely within {0} s; split it into several requests")]
    TooSlow(u64),
    #[error("the connection failed before the body was complete: {0}")]
    BrokenOff(String),
    #[error("the body is not valid UTF-8 at byte {0}; encode it as UTF-8")]
    NotUtf8(usize),
    #[error("the body is not valid JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the body contains no event; send one event, an array of events, or one event per line")]
    Empty,
    #[error("the maximum number of listeners is connected; retry later")]
    TooManyListeners,
    #[error("too many requests with events are in progress; retry later")]
    TooManyBodies,
    #[error("{0}")]
    Store(Fault),
    #[error("the parameter `{0}` {1}")]
    Parameter(String, String),
    #[error("no store and no record has the chunk {0}")]
    NoChunk(Uuid),
    #[error("no dead letter has the id {0}; /v1/dead lists them")]
    NoLetter(EntryId),
    #[error("the event cannot be published: {0}: {1}")]
    Invalid(String, String),
    #[error("{0}; it is unknown whether the events were published, and it is safe to send all of them again")]
    Bus(Fault),
    #[error("internal error while reading the events: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) | Self::NoChunk(_) | Self::NoLetter(_) => StatusCode::NOT_FOUND,
            Self::Invalid(..) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::WrongMethod(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoToken => StatusCode::FORBIDDEN,
            Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::WrongType(_) | Self::WrongEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge | Self::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Parameter(..)
            | Self::NoHost
            | Self::BrokenOff(_)
            | Self::NotUtf8(_)
            | Self::NotJson(_)
            | Self::Empty => StatusCode::BAD_REQUEST,
            Self::TooManyListeners | Self::TooManyBodies | Self::TooManyGuesses(_) | Self::TooManyRequests(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
            Self::Bus(fault) | Self::Store(fault) if fault.class == FaultClass::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Bus(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Refusal {
    fn retry_after(&self) -> u64 {
        match self {
            Self::TooManyGuesses(wait) | Self::TooManyRequests(wait) => seconds(*wait),
            _ => RETRY_SECONDS,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut body = json!({"error": self.to_string()});
        if let Self::NotJson(error) = &self {
            body["line"] = error.line().into();
            body["column"] = error.column().into();
        }
        if let Self::Parameter(field, _) | Self::Invalid(field, _) = &self {
            body["field"] = field.as_str().into();
        }
        let body = Json(body);
        match status {
            StatusCode::UNAUTHORIZED => {
                (status, [(WWW_AUTHENTICATE, "Bearer realm=\"chunk-sync\"")], body).into_response()
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                (status, [(RETRY_AFTER, self.retry_after().to_string())], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
