//! Faults of ports, in as many classes as there are different reactions to them.

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

    /// Whether the same call can succeed later with the same input.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unavailable | Self::Timeout | Self::Busy | Self::Denied | Self::Misconfigured => true,
            Self::Rejected | Self::Corrupt | Self::Disk => false,
        }
    }
}

/// The failure of a call to a port.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{context}: {message}")]
pub struct Fault {
    /// The class, which decides the reaction.
    pub class: FaultClass,
    /// The operation that failed, such as `qdrant upsert`.
    pub context: &'static str,
    /// The error of the server, and the remedy where it is known.
    pub message: String,
    /// The field of the chunk that caused the fault, where one did.
    pub field: Option<String>,
    /// Whether the installation is no longer the one that this process was started for: the process must neither repeat
    /// the call nor dead-letter what it carries, but end.
    pub outdated: bool,
    /// Whether the input refers to a row of another table that does not exist, but may be added a moment later.
    pub awaits_parent: bool,
}

impl Fault {
    /// A fault of this class, with the error that caused it.
    pub fn new(class: FaultClass, context: &'static str, error: impl std::fmt::Display) -> Self {
        Self { class, context, message: format!("{error:#}"), field: None, outdated: false, awaits_parent: false }
    }

    /// The fault that ends a process which was started for another set of stores; the message contains both values and
    /// the remedy.
    pub fn outdated(context: &'static str, message: impl std::fmt::Display) -> Self {
        Self { outdated: true, ..Self::new(FaultClass::Misconfigured, context, message) }
    }

    /// Adds the field that caused the fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
