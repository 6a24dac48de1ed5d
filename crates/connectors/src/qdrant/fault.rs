//! Errors of Qdrant and its client, and their fault classes.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use qdrant_client::QdrantError;
use tonic::{Code, Status};

/// The context of a fault while writing.
pub(super) const WRITE: &str = "qdrant: write";

/// An error of one call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", text(.0))]
    Status(Box<Status>),
    #[error(transparent)]
    Client(Box<QdrantError>),
    #[error("no response within {0:?}; the operation may or may not have taken effect")]
    Deadline(Duration),
    #[error("the server accepted the write but did not confirm its completion (status {0}); the write can be repeated")]
    Unconfirmed(&'static str),
    /// The server accepts so many writes or reads per minute.
    #[error("the server's rate limit is reached: {message}; {}", pause(*.after))]
    RateLimit { message: String, after: Option<Duration> },
    /// The request is above a limit of bytes, of the server or of a proxy before it.
    #[error("a request of {bytes} bytes is above a limit of bytes: {message}")]
    TooLong { bytes: usize, message: String },
    #[error("{0}")]
    Setup(String),
}

/// The text of a status. For a failed connection it is the debug form of nested errors, with the text of the system inside.
fn text(status: &Status) -> String {
    let Some(failure) = status.message().strip_prefix("Failed to connect to ") else {
        return format!("{}: {}", status.code(), status.message());
    };
    let address = failure.split(": ").next().unwrap_or_default();
    match failure.split("message: \"").nth(1).and_then(|reason| reason.split('"').next()) {
        Some(reason) => format!("cannot connect to {address}: {reason}"),
        None => format!("cannot connect to {failure}"),
    }
}

fn pause(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!("the next request follows in {} s", after.as_secs()),
        None => "the request costs more than the limit of a minute".to_owned(),
    }
}

impl From<QdrantError> for Error {
    fn from(error: QdrantError) -> Self {
        match error {
            QdrantError::ResourceExhaustedError { status, retry_after_seconds } => Self::RateLimit {
                message: status.message().to_owned(),
                after: Some(Duration::from_secs(retry_after_seconds)),
            },
            QdrantError::ResponseError { status } if is_rate_limit(&status) => {
                Self::RateLimit { message: status.message().to_owned(), after: None }
            }
            QdrantError::ResponseError { status } => Self::Status(Box::new(status)),
            other => Self::Client(Box::new(other)),
        }
    }
}

impl Error {
    pub(super) fn class(&self) -> FaultClass {
        match self {
            Self::Status(status) => answer(status).0,
            Self::Client(error) => match **error {
                QdrantError::InvalidUri(_) => FaultClass::Misconfigured,
                QdrantError::Io(_) => FaultClass::Unavailable,
                // The remaining variants are errors of the client's conversions.
                _ => FaultClass::Corrupt,
            },
            Self::Deadline(_) | Self::Unconfirmed(_) => FaultClass::Timeout,
            Self::RateLimit { .. } => FaultClass::Busy,
            Self::TooLong { .. } => FaultClass::Rejected,
            Self::Setup(_) => FaultClass::Misconfigured,
        }
    }

    /// The fault of a request with so many writes. With fewer of them it could succeed if one of them is refused, or if
    /// together they are above a limit.
    pub(super) fn of_write(self, writes: usize) -> Fault {
        let wants_less = match &self {
            Self::RateLimit { after, .. } => after.is_none(),
            error => error.is_request_limit() || matches!(error.class(), FaultClass::Rejected | FaultClass::Corrupt),
        };
        Fault { divisible: writes > 1 && wants_less, ..self.into_fault(WRITE) }
    }

    /// Whether the strict mode of the collection refuses a request of this size. Its limits may have changed since they
    /// were read.
    pub(super) fn is_request_limit(&self) -> bool {
        matches!(self, Self::Status(status) if is_request_limit(status))
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimit { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the server, or a proxy before it, refuses the length of the request. Envoy and gRPC servers answer
    /// `ResourceExhausted` or `OutOfRange`, HTTP proxies 413.
    pub(super) fn is_length(&self) -> bool {
        let Self::Status(status) = self else { return false };
        let message = status.message();
        match status.code() {
            Code::ResourceExhausted => message.contains("larger than max"),
            Code::OutOfRange => message.contains("message length too large"),
            // The client takes the page of the proxy for a message, or finds none.
            Code::Unknown | Code::Internal => message.contains("413 Payload Too Large") || message.contains("code 413"),
            _ => false,
        }
    }

    /// Whether the caller may not do this.
    pub(super) fn is_denied(&self) -> bool {
        self.class() == FaultClass::Denied
    }

    /// Whether the collection does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::NotFound)
    }

    /// Whether the server does not implement the call.
    pub(super) fn is_unknown_call(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::Unimplemented)
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let (remedy, code) = match &self {
            Self::Status(status) => (answer(status).1, Some(format!("{:?}", status.code()))),
            Self::TooLong { .. } => (
                "raise it (nginx: client_max_body_size), or lower limits.chunk_max_bytes, for one chunk alone is above it",
                None,
            ),
            _ => ("", None),
        };
        let fault = match remedy {
            "" => Fault::new(self.class(), context, &self),
            remedy => Fault::new(self.class(), context, format!("{self}; {remedy}")),
        };
        fault.caused_by(self, code)
    }
}

/// The class of a status, and the remedy; empty if none is known.
fn answer(status: &Status) -> (FaultClass, &'static str) {
    match status.code() {
        Code::DeadlineExceeded => (FaultClass::Timeout, ""),
        // The client reports its own timeout this way.
        Code::Cancelled if status.message().contains("Timeout expired") => (FaultClass::Timeout, ""),
        _ if is_request_limit(status) => {
            (FaultClass::Misconfigured, "raise this limit in the strict mode of the collection: one chunk is above it")
        }
        _ if is_full(status) => {
            (FaultClass::Misconfigured, "raise this limit in the strict mode of the collection, or delete other points")
        }
        Code::ResourceExhausted | Code::Aborted => (FaultClass::Busy, ""),
        Code::Unauthenticated => (FaultClass::Denied, "set qdrant.api_key to a key of this server"),
        Code::PermissionDenied => {
            (FaultClass::Denied, "set qdrant.api_key to a key that may write: this one can only read")
        }
        Code::NotFound => (FaultClass::Misconfigured, "create the collection with `chunk-sync init`"),
        Code::Unimplemented => {
            (FaultClass::Misconfigured, "check that qdrant.url names the gRPC port of Qdrant 1.7 or later")
        }
        Code::FailedPrecondition => (FaultClass::Misconfigured, ""),
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => refusal(status.message()),
        Code::DataLoss => (FaultClass::Corrupt, ""),
        Code::Internal if ["certificate", "TLS"].iter().any(|word| status.message().contains(word)) => {
            (FaultClass::Misconfigured, "use a server certificate that this machine trusts")
        }
        Code::Internal | Code::Unavailable if has(status, &["No space left on device", "os error 28"]) => {
            (FaultClass::Unavailable, "the disk of the Qdrant server is full: make room on it")
        }
        Code::Internal if has(status, &["Read-only file system", "os error 30"]) => {
            (FaultClass::Unavailable, "the disk of the Qdrant server is read-only: see the server's log and its disk")
        }
        // The rest: the connection failed or broke, or the server has an internal error.
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::Unavailable => {
            (FaultClass::Unavailable, "")
        }
    }
}

fn has(status: &Status, words: &[&str]) -> bool {
    words.iter().any(|words| status.message().contains(words))
}

fn is_rate_limit(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && has(status, &["rate limit", "Rate limit"])
}

/// Whether the strict mode of the collection refuses the size of the request. Some versions answer with one code, some
/// with the other.
fn is_request_limit(status: &Status) -> bool {
    const LIMITS: [&str; 4] = [
        "for \"upsert limit\"",
        "for \"update limit\"",
        "Filter condition limit reached",
        "Condition size limit reached",
    ];
    matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied) && has(status, &LIMITS)
}

/// Whether the strict mode of the collection refuses to let it grow.
fn is_full(status: &Status) -> bool {
    const SIZES: [&str; 4] = [
        "Max vector storage size limit",
        "Max payload storage size limit",
        "Max points count",
        "Resident memory usage",
    ];
    matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied) && has(status, &SIZES)
}

/// The class and remedy of a refused request. Writes are checked against the configuration before they are sent, so a
/// refused vector means that the collection differs from the configuration.
fn refusal(message: &str) -> (FaultClass, &'static str) {
    let of_collection = ["Vector dimension error", "Not existing vector name"];
    if of_collection.iter().any(|words| message.contains(words)) {
        return (
            FaultClass::Misconfigured,
            "the collection differs from the configuration; run `chunk-sync init` to see how",
        );
    }
    if message.contains("Index required") {
        return (
            FaultClass::Misconfigured,
            "the strict mode of the collection requires an index on sync_version; run `chunk-sync init` to create it",
        );
    }
    (FaultClass::Rejected, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: Code, message: &str) -> FaultClass {
        Error::from(QdrantError::from(Status::new(code, message))).class()
    }

    #[test]
    fn a_failed_connection_has_the_words_of_the_system() {
        let text = |message: &str| Error::Status(Box::new(Status::internal(message))).to_string();
        let nested = "Failed to connect to http://127.0.0.1:9/: tonic::transport::Error(Transport, ConnectError(ConnectError(\
                      \"tcp connect error\", 127.0.0.1:9, Os { code: 111, kind: ConnectionRefused, message: \"Connection \
                      refused\" })))";
        assert_eq!(text(nested), "cannot connect to http://127.0.0.1:9/: Connection refused");
    }

    #[test]
    fn each_status_has_its_fault_class() {
        for (code, message, wanted) in [
            (Code::Unavailable, "tcp connect error", FaultClass::Unavailable),
            (Code::Internal, "Failed to connect to http://127.0.0.1:1/", FaultClass::Unavailable),
            (Code::Internal, "Failed to connect: invalid peer certificate: UnknownIssuer", FaultClass::Misconfigured),
            (Code::DeadlineExceeded, "", FaultClass::Timeout),
            (Code::Cancelled, "Timeout expired", FaultClass::Timeout),
            (Code::Cancelled, "operation was canceled", FaultClass::Unavailable),
            (Code::ResourceExhausted, "Rate limiting exceeded", FaultClass::Busy),
            (
                Code::InvalidArgument,
                "Bad request: Limit exceeded 9 > 4 for \"upsert limit\"",
                FaultClass::Misconfigured,
            ),
            (Code::PermissionDenied, "Forbidden: Filter condition limit reached (5 > 2)", FaultClass::Misconfigured),
            (Code::InvalidArgument, "Max vector storage size limit of 1MB reached!", FaultClass::Misconfigured),
            (Code::Internal, "Service internal error: No space left on device", FaultClass::Unavailable),
            (Code::Unauthenticated, "Must provide an API key", FaultClass::Denied),
            (Code::PermissionDenied, "Forbidden", FaultClass::Denied),
            (Code::NotFound, "Collection `x` doesn't exist!", FaultClass::Misconfigured),
            (Code::Unimplemented, "", FaultClass::Misconfigured),
            (Code::InvalidArgument, "Wrong input: expected a map", FaultClass::Rejected),
            (Code::InvalidArgument, "Wrong input: Vector dimension error: expected dim: 3", FaultClass::Misconfigured),
            (Code::InvalidArgument, "Index required but not found for \"sync_version\"", FaultClass::Misconfigured),
            (Code::DataLoss, "", FaultClass::Corrupt),
        ] {
            assert_eq!(class(code, message), wanted, "{code:?} {message}");
        }
    }

    #[test]
    fn the_error_for_a_missing_collection_names_the_remedy() {
        let error = Error::from(QdrantError::from(Status::not_found("Collection `x` doesn't exist!")));
        assert!(error.is_not_found());
        assert!(error.into_fault("test").message.contains("chunk-sync init"));
    }
}
