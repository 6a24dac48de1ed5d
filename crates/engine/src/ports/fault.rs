//! What can go wrong beyond a seam, in as many classes as there are different answers to it.

/// Which answer a fault wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// Nobody answers there: try again later.
    Unavailable,
    /// An answer did not come in time; what was asked may or may not have happened: try again, all writes can be repeated.
    Timeout,
    /// Others were in the way (a lock, a deadlock, a limit of rate): try again soon.
    Busy,
    /// This one input can never succeed: set it aside.
    Rejected,
    /// Name, password or right refused: a person must act; try again slowly.
    Denied,
    /// The other side is not set up as needed (a table, collection or version is missing): a person must act.
    Misconfigured,
    /// What was stored cannot be read: a person must act.
    Corrupt,
    /// The local disk failed or is full: stop rather than go on without a log.
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

    /// Whether the same call can succeed later without anybody changing the input.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unavailable | Self::Timeout | Self::Busy | Self::Denied | Self::Misconfigured => true,
            Self::Rejected | Self::Corrupt | Self::Disk => false,
        }
    }
}

/// What went wrong beyond a seam.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{context}: {message}")]
pub struct Fault {
    /// Which answer it wants.
    pub class: FaultClass,
    /// What was being done, such as `qdrant upsert`.
    pub context: &'static str,
    /// What the other side said, and what to do where that is known.
    pub message: String,
    /// The field of the chunk that is to blame, where one is.
    pub field: Option<String>,
    /// The installation is not the one that this process was started for any more: it must neither repeat the call nor set
    /// aside what it carries, but end.
    pub outdated: bool,
}

impl Fault {
    /// A fault of a class, with the error that it came from.
    pub fn new(class: FaultClass, context: &'static str, error: impl std::fmt::Display) -> Self {
        Self { class, context, message: format!("{error:#}"), field: None, outdated: false }
    }

    /// The fault that ends a process which was started for another set of stores; the message has both values and the
    /// remedy.
    pub fn outdated(context: &'static str, message: impl std::fmt::Display) -> Self {
        Self { outdated: true, ..Self::new(FaultClass::Misconfigured, context, message) }
    }

    /// The same, blaming a field.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
