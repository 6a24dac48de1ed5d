//! The client with a deadline on every call, and the server's version with what depends on it.
//!
//! As long as the server has not reported its version, a call that fails is explained: the commonest mistake is the port
//! of the REST interface in the URL, of which the gRPC client reports only that the protocol is violated.

use std::fmt;
use std::time::Duration;

use chunk_sync_engine::ports::FaultClass;
use qdrant_client::{Qdrant, QdrantError};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::encode::Wire;
use super::fault::Error;
use super::rest_port;

/// The oldest supported version, major and minor: the first with sparse vectors.
const OLDEST: (u64, u64) = (1, 7);

/// The first version with conditional upserts. Older servers ignore the condition.
const CONDITIONAL: (u64, u64) = (1, 16);

/// The first version that can add a vector to an existing collection.
const ADDING: (u64, u64) = (1, 18);

/// A server, and its version once it has been fetched.
pub(super) struct Server {
    pub(super) client: Qdrant,
    url: String,
    timeout: Duration,
    version: OnceCell<Version>,
}

/// Major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u64, u64);

impl Server {
    pub(super) fn new(client: Qdrant, timeout: Duration) -> Self {
        let url = client.config.uri.clone();
        Self { client, url, timeout, version: OnceCell::new() }
    }

    /// Awaits a call up to the deadline. The client's futures are large, so they are boxed.
    ///
    /// # Errors
    /// [`Error::Deadline`] after the timeout; [`Error::Setup`] if the URL names the REST port; else the client's error.
    pub(super) fn call<T>(
        &self,
        call: impl Future<Output = Result<T, QdrantError>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let limit = self.timeout;
        let call = timeout(limit, Box::pin(call));
        async move {
            match call.await.map_err(|_| Error::Deadline(limit))?.map_err(Error::from) {
                Err(error) if error.class() == FaultClass::Unavailable && self.version.get().is_none() => {
                    Err(rest_port::recognise(&self.url).await.map_or(error, Error::Setup))
                }
                answer => answer,
            }
        }
    }

    /// The server's version. The first success is kept.
    ///
    /// # Errors
    /// [`Error::Setup`] if the version is older than 1.7 or not a version; else the error of the call.
    pub(super) async fn version(&self) -> Result<Version, Error> {
        self.version.get_or_try_init(|| self.fetch_version()).await.copied()
    }

    async fn fetch_version(&self) -> Result<Version, Error> {
        let text = self.call(self.client.health_check()).await?.version;
        match Version::of(&text) {
            Some(Version(major, minor)) if (major, minor) >= OLDEST => Ok(Version(major, minor)),
            Some(_) => Err(Error::Setup(format!("the server runs Qdrant {text}; upgrade it to 1.7 or later"))),
            None => Err(Error::Setup(format!(
                "the server reports the version `{text}`, which is not a version number; check that qdrant.url names a \
                 Qdrant server"
            ))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// Parses `1.18.1`, `v1.18.1-dev` and similar forms.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut numbers = text.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??))
    }

    /// Whether the server evaluates the condition of an upsert.
    pub(super) fn is_conditional(self) -> bool {
        (self.0, self.1) >= CONDITIONAL
    }

    /// Whether the server can add a vector to an existing collection.
    pub(super) fn adds_vectors(self) -> bool {
        (self.0, self.1) >= ADDING
    }

    /// The encoding of vectors for this server.
    pub(super) fn wire(self) -> Wire {
        if self.is_conditional() { Wire::Typed } else { Wire::Flat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let conditional = |text| Version::of(text).map(Version::is_conditional);
        assert_eq!(conditional("1.18.1"), Some(true));
        assert_eq!(conditional("v1.16.0-dev"), Some(true));
        assert_eq!(conditional("2.0.0"), Some(true));
        assert_eq!(conditional("1.15.5"), Some(false));
        assert_eq!(conditional("1.9.7"), Some(false));
        assert_eq!((conditional(""), conditional("dev")), (None, None));
    }
}
