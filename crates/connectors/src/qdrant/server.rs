//! The server as one is told about it, and calls to it that have an end.

use std::fmt;
use std::time::Duration;

use qdrant_client::{Qdrant, QdrantError};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::encode::Wire;
use super::fault::Error;

/// The oldest server that knows sparse vectors, by major and minor version.
const OLDEST: (u64, u64) = (1, 7);

/// The oldest that takes an upsert with a condition; older ones ignore the condition.
const CONDITIONAL: (u64, u64) = (1, 16);

/// The oldest that adds a vector to a collection that is there.
const ADDING: (u64, u64) = (1, 18);

/// A server, and what it said of itself when it was first asked.
pub(super) struct Server {
    pub(super) client: Qdrant,
    timeout: Duration,
    version: OnceCell<Version>,
}

/// Major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u64, u64);

impl Server {
    pub(super) fn new(client: Qdrant, timeout: Duration) -> Self {
        Self { client, timeout, version: OnceCell::new() }
    }

    /// The answer to a call, if it comes in time. The client's futures are large: they live on the heap.
    pub(super) fn call<T>(
        &self,
        call: impl Future<Output = Result<T, QdrantError>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let (call, patience) = (timeout(self.timeout, Box::pin(call)), self.timeout);
        async move { call.await.map_err(|_| Error::Deadline(patience))?.map_err(Error::from) }
    }

    /// Its version, asked once. One that is older than any that is spoken to is refused.
    pub(super) async fn version(&self) -> Result<Version, Error> {
        self.version.get_or_try_init(|| self.ask()).await.copied()
    }

    async fn ask(&self) -> Result<Version, Error> {
        let told = self.call(self.client.health_check()).await?.version;
        match Version::of(&told) {
            Some(Version(major, minor)) if (major, minor) >= OLDEST => Ok(Version(major, minor)),
            Some(_) => Err(Error::Setup(format!("the server is Qdrant {told}: 1.7 or later is needed"))),
            None => Err(Error::Setup(format!("the server says that its version is `{told}`: is it Qdrant?"))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// Of `1.18.1`, `v1.18.1-dev` and the like.
    fn of(told: &str) -> Option<Self> {
        let mut numbers = told.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??))
    }

    /// Whether an upsert with a condition is one.
    pub(super) fn is_conditional(self) -> bool {
        (self.0, self.1) >= CONDITIONAL
    }

    /// Whether a collection can get one more vector.
    pub(super) fn adds_vectors(self) -> bool {
        (self.0, self.1) >= ADDING
    }

    /// How it wants vectors.
    pub(super) fn wire(self) -> Wire {
        if self.is_conditional() { Wire::Typed } else { Wire::Flat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let conditional = |told| Version::of(told).map(Version::is_conditional);
        assert_eq!(conditional("1.18.1"), Some(true));
        assert_eq!(conditional("v1.16.0-dev"), Some(true));
        assert_eq!(conditional("2.0.0"), Some(true));
        assert_eq!(conditional("1.15.5"), Some(false));
        assert_eq!(conditional("1.9.7"), Some(false));
        assert_eq!((conditional(""), conditional("dev")), (None, None));
    }
}
