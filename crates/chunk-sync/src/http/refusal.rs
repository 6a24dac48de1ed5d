//! Every way in which a request can be refused, with the status that says so. A refusal is JSON: `{"error": …}`.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chunk_sync_engine::ports::{Fault, FaultClass};
use serde_json::json;

use super::events::{MAX_BYTES, MAX_EVENTS};

/// When it is worth trying again, in seconds.
const AGAIN: &str = "2";

/// Why a request is refused, and what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nothing is found under {0}; the status page is at /")]
    NothingThere(String),
    #[error("{1} does not answer to {0}; the header Allow says what it answers to")]
    WrongMethod(Method, String),
    #[error("the request must have one Host header that names this service")]
    NoHost,
    #[error(
        "this service is not called `{0}`: call it by its address or as localhost, or add the name to http.hosts \
         (CHUNK_SYNC__HTTP__HOSTS)"
    )]
    WrongHost(String),
    #[error(
        "no token is configured, so nothing can be published over HTTP: set http.token (CHUNK_SYNC__HTTP__TOKEN) to at \
         least 16 characters, such as `openssl rand -hex 32` makes, and start the service again"
    )]
    NoToken,
    #[error("the header `Authorization: Bearer …` must bring the configured token (http.token)")]
    WrongToken,
    #[error("the content type must be application/json or application/x-ndjson, not `{0}`")]
    WrongType(String),
    #[error("the content encoding `{0}` is not known: send the body as it is")]
    WrongEncoding(String),
    #[error("the body is larger than {} MiB: send it in parts", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("more than {MAX_EVENTS} events: send them in parts")]
    TooMany,
    #[error("the body did not come to its end within {0} s")]
    TooSlow(u64),
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    #[error("the body is not UTF-8: byte {0} begins no character")]
    NotUtf8(usize),
    #[error("the body is no JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the body has no event")]
    Empty,
    #[error("too many listen already")]
    TooManyListeners,
    #[error("too many requests with events are being read: try again later")]
    TooManyBodies,
    #[error("{0}; none of the events can be taken for published, and all may be sent again")]
    Bus(Fault),
    #[error("the request could not be worked on: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NothingThere(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoToken => StatusCode::FORBIDDEN,
            Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::WrongType(_) | Self::WrongEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge | Self::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NoHost | Self::BrokenOff(_) | Self::NotUtf8(_) | Self::NotJson(_) | Self::Empty => {
                StatusCode::BAD_REQUEST
            }
            Self::TooManyListeners | Self::TooManyBodies => StatusCode::TOO_MANY_REQUESTS,
            Self::Bus(fault) if fault.class == FaultClass::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Bus(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
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
        let body = Json(body);
        match status {
            StatusCode::UNAUTHORIZED => {
                (status, [(WWW_AUTHENTICATE, "Bearer realm=\"chunk-sync\"")], body).into_response()
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                (status, [(RETRY_AFTER, AGAIN)], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
