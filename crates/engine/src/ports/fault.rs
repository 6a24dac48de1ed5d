//! Faults of ports, in as many classes as there are different causes; each has one policy.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The class of a fault, which decides how the caller reacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// The server does not answer: try again later.
    Unavailable,
    /// The answer did not come in time, and the request may or may not have been executed: try again, all writes can be
    /// repeated.
    Timeout,
    /// The request collided with others (a lock, a deadlock, a rate limit): try again soon.
    Busy,
    /// This one input can never succeed: dead-letter it.
    Rejected,
    /// The server rejected the user name, the password or the privilege: the operator must act; try again slowly.
    Denied,
    /// The server is not set up as needed (a table, collection or version is missing): the operator must act.
    Misconfigured,
    /// Stored data cannot be read: the operator must act.
    Corrupt,
    /// The local disk failed or is full: stop, because without the log nothing may go on.
    Disk,
}

impl FaultClass {
    /// Every class, for metrics.
    pub const ALL: [Self; 8] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Busy,
        Self::Rejected,
        Self::Denied,
        Self::Misconfigured,
        Self::Corrupt,
        Self::Disk,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Misconfigured => "misconfigured",
            Self::Corrupt => "corrupt",
            Self::Disk => "disk",
        }
    }
}

/// What the caller does about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The call collided with another or took too long: repeat it, alone where it was part of a batch.
    RetryAlone,
    /// The server must recover, or the operator must act: wait, then repeat the same call.
    Wait,
    /// This input cannot succeed: dead-letter it.
    DeadLetter,
    /// Nothing may go on: end the worker. The next start continues what was under way.
    Stop,
}

impl Policy {
    /// Whether the same call can succeed later.
    #[must_use]
    pub fn retries(self) -> bool {
        match self {
            Self::RetryAlone | Self::Wait => true,
            Self::DeadLetter | Self::Stop => false,
        }
    }
}

/// The failure of a call to a port.
///
/// The text contains that of the cause: a report prints the fault, not its causes. They are for code that compares.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The class, which decides the reaction.
    pub class: FaultClass,
    /// The operation that failed, such as `qdrant upsert`.
    pub context: &'static str,
    /// The error of the server, and the remedy where it is known.
    pub message: String,
    /// The code of the server, where it gave one: a SQLSTATE, a code of Neo4j, Redis or SQLite, or a gRPC status.
    pub code: Option<String>,
    /// The error that caused the fault, where there was one.
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
    /// The field of the chunk that caused the fault, where one did.
    pub field: Option<String>,
    /// Whether the installation is no longer the one that this process was started for: the process must neither repeat
    /// the call nor dead-letter what it carries, but end.
    pub outdated: bool,
    /// Whether the input refers to a row of another table that does not exist, but may be added a moment later.
    pub awaits_parent: bool,
    /// Whether a request with several writes failed as a whole, and one with fewer of them may succeed: one of them is
    /// refused, or together they are above a limit.
    pub divisible: bool,
}

impl Fault {
    /// A fault of this class with this message.
    pub fn new(class: FaultClass, context: &'static str, message: impl fmt::Display) -> Self {
        Self {
            class,
            context,
            message: format!("{message:#}"),
            code: None,
            cause: None,
            field: None,
            outdated: false,
            awaits_parent: false,
            divisible: false,
        }
    }

    /// The fault that ends a process which was started for another set of stores; the message contains both values and
    /// the remedy.
    pub fn outdated(context: &'static str, message: impl fmt::Display) -> Self {
        Self { outdated: true, ..Self::new(FaultClass::Misconfigured, context, message) }
    }

    /// Adds the field that caused the fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds the error that caused the fault, and the code that the server gave, if it gave one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static, code: Option<String>) -> Self {
        self.cause = Some(Arc::new(cause));
        self.code = code;
        self
    }

    /// What the caller does about it.
    ///
    /// ```
    /// use chunk_sync_engine::ports::{Fault, FaultClass, Policy};
    ///
    /// let fault = Fault::new(FaultClass::Unavailable, "qdrant: write", "connection refused");
    /// assert_eq!(fault.policy(), Policy::Wait);
    /// assert_eq!(fault.to_string(), "qdrant: write: connection refused");
    /// ```
    #[must_use]
    pub fn policy(&self) -> Policy {
        match self.class {
            _ if self.outdated => Policy::Stop,
            FaultClass::Busy | FaultClass::Timeout => Policy::RetryAlone,
            FaultClass::Unavailable | FaultClass::Denied | FaultClass::Misconfigured => Policy::Wait,
            FaultClass::Rejected | FaultClass::Corrupt => Policy::DeadLetter,
            FaultClass::Disk => Policy::Stop,
        }
    }

    /// Whether any other request to the server would fail as well now, perhaps after the same wait.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        let fails = match self.policy() {
            Policy::Wait | Policy::Stop => true,
            Policy::RetryAlone => self.class == FaultClass::Timeout,
            Policy::DeadLetter => false,
        };
        fails && !self.divisible
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.context, self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_fault_is_the_error_that_caused_it() {
        let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let fault = Fault::new(FaultClass::Timeout, "test", &error).caused_by(error, Some("57014".into()));
        let kind = fault.source().and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        assert_eq!((kind, fault.code.as_deref()), (Some(std::io::ErrorKind::TimedOut), Some("57014")));
    }

    #[test]
    fn every_class_has_a_policy_and_an_outdated_process_stops() {
        let repeated = |class| Fault::new(class, "test", "").policy().retries();
        let stay: Vec<FaultClass> = FaultClass::ALL.into_iter().filter(|class| !repeated(*class)).collect();
        assert_eq!(stay, [FaultClass::Rejected, FaultClass::Corrupt, FaultClass::Disk]);
        assert_eq!(Fault::outdated("test", "").policy(), Policy::Stop);
    }

    #[test]
    fn a_busy_server_and_a_refused_request_are_no_faults_of_the_server() {
        let of_server = |divisible| {
            let fault = move |class| Fault { divisible, ..Fault::new(class, "test", "") };
            FaultClass::ALL.into_iter().filter(|class| fault(*class).is_of_server()).collect::<Vec<_>>()
        };
        let one = [FaultClass::Busy, FaultClass::Rejected, FaultClass::Corrupt];
        assert_eq!(
            of_server(false),
            FaultClass::ALL.into_iter().filter(|class| !one.contains(class)).collect::<Vec<_>>()
        );
        assert!(of_server(true).is_empty(), "a smaller request may succeed");
    }
}
