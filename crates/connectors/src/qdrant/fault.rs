//! What Qdrant and its client say, as the engine understands it.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use qdrant_client::QdrantError;
use tonic::{Code, Status};

/// What can go wrong in a call of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    #[error(transparent)]
    Client(Box<QdrantError>),
    #[error("no answer within {0:?}; what was asked may or may not have happened")]
    Deadline(Duration),
    #[error("the server took the write and did not say that it is done: {0}")]
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
                // Whatever else its conversions cannot read.
                _ => FaultClass::Corrupt,
            },
            Self::Deadline(_) | Self::Unconfirmed(_) => FaultClass::Timeout,
            Self::Setup(_) => FaultClass::Misconfigured,
        }
    }

    /// Whether the collection is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::NotFound)
    }

    /// Whether the server does not know what it was asked for.
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
            remedy => Fault::new(self.class(), context, format!("{self}: {remedy}")),
        }
    }
}

/// What a status wants, and what to do where that is known.
fn answer(status: &Status) -> (FaultClass, &'static str) {
    match status.code() {
        Code::DeadlineExceeded => (FaultClass::Timeout, ""),
        // So the client calls the end of its own patience.
        Code::Cancelled if status.message().contains("Timeout expired") => (FaultClass::Timeout, ""),
        Code::ResourceExhausted | Code::Aborted => (FaultClass::Busy, ""),
        Code::Unauthenticated | Code::PermissionDenied => {
            (FaultClass::Denied, "set an api_key that may write to the collection")
        }
        Code::NotFound => (FaultClass::Misconfigured, "create the collection with `chunk-sync init`"),
        Code::Unimplemented => (FaultClass::Misconfigured, "is this the gRPC port of Qdrant 1.7 or later?"),
        Code::FailedPrecondition => (FaultClass::Misconfigured, ""),
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => refusal(status.message()),
        Code::DataLoss => (FaultClass::Corrupt, ""),
        Code::Internal if ["certificate", "TLS"].iter().any(|word| status.message().contains(word)) => {
            (FaultClass::Misconfigured, "the server's certificate is not one that this machine trusts")
        }
        // The rest is a connection that is not had or broke, or a server in trouble of its own.
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::Unavailable => {
            (FaultClass::Unavailable, "")
        }
    }
}

/// Writes are held to the configuration before they are sent, so a vector that does not fit blames the collection.
fn refusal(message: &str) -> (FaultClass, &'static str) {
    let of_collection = ["Vector dimension error", "Not existing vector name"];
    if of_collection.iter().any(|words| message.contains(words)) {
        return (FaultClass::Misconfigured, "the collection is not as configured: `chunk-sync init` says how");
    }
    if message.contains("Index required") {
        return (
            FaultClass::Misconfigured,
            "its strict mode wants an index on sync_version: `chunk-sync init` makes it",
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
    fn each_status_wants_its_own_answer() {
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
    fn a_missing_collection_is_told_with_its_remedy() {
        let error = Error::from(QdrantError::from(Status::not_found("Collection `x` doesn't exist!")));
        assert!(error.is_not_found());
        assert!(error.into_fault("test").message.contains("chunk-sync init"));
    }
}
