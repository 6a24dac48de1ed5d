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
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    #[error(transparent)]
    Client(Box<QdrantError>),
    #[error("no response within {0:?}; the operation may or may not have taken effect")]
    Deadline(Duration),
    #[error("the server accepted the write but did not confirm its completion (status {0}); the write can be repeated")]
    Unconfirmed(&'static str),
    #[error("{0}")]
    Setup(String),
}

impl From<QdrantError> for Error {
    fn from(error: QdrantError) -> Self {
        match error {
            QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => {
                Self::Status(Box::new(status))
            }
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
            Self::Setup(_) => FaultClass::Misconfigured,
        }
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
        let remedy = match &self {
            Self::Status(status) => answer(status).1,
            _ => "",
        };
        match remedy {
            "" => Fault::new(self.class(), context, self),
            remedy => Fault::new(self.class(), context, format!("{self}; {remedy}")),
        }
    }
}

/// The class of a status, and the remedy; empty if none is known.
fn answer(status: &Status) -> (FaultClass, &'static str) {
    match status.code() {
        Code::DeadlineExceeded => (FaultClass::Timeout, ""),
        // The client reports its own timeout this way.
        Code::Cancelled if status.message().contains("Timeout expired") => (FaultClass::Timeout, ""),
        Code::ResourceExhausted | Code::Aborted => (FaultClass::Busy, ""),
        Code::Unauthenticated | Code::PermissionDenied => {
            (FaultClass::Denied, "set qdrant.api_key to a key that may write to the collection")
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
        // The rest: the connection failed or broke, or the server has an internal error.
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::Unavailable => {
            (FaultClass::Unavailable, "")
        }
    }
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
    fn each_status_has_its_fault_class() {
        for (code, message, wanted) in [
            (Code::Unavailable, "tcp connect error", FaultClass::Unavailable),
            (Code::Internal, "Failed to connect to http://127.0.0.1:1/", FaultClass::Unavailable),
            (Code::Internal, "Failed to connect: invalid peer certificate: UnknownIssuer", FaultClass::Misconfigured),
            (Code::DeadlineExceeded, "", FaultClass::Timeout),
            (Code::Cancelled, "Timeout expired", FaultClass::Timeout),
            (Code::Cancelled, "operation was canceled", FaultClass::Unavailable),
            (Code::ResourceExhausted, "Rate limiting exceeded", FaultClass::Busy),
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
