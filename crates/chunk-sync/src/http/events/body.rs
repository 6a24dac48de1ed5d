//! The body of a request as it comes in: read to its end within bounds, or let go without cutting the client off.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures::StreamExt;
use tokio::time::timeout;

use super::MAX_BYTES;
use crate::http::refusal::Refusal;

/// How long a body may take.
const WHOLE: Duration = Duration::from_secs(60);

/// How long a refused body is still read: a client that is busy sending sees the answer only afterwards, and one that is
/// cut off sees none.
const LET_GO: Duration = Duration::from_secs(5);

/// A body that has not been read to its end.
pub(super) struct Body(BodyDataStream);

impl Body {
    pub(super) fn new(body: axum::body::Body) -> Self {
        Self(body.into_data_stream())
    }

    /// All of it.
    pub(super) async fn read(&mut self, headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MAX_BYTES) {
            return Err(Refusal::TooLarge);
        }
        timeout(WHOLE, self.collect()).await.unwrap_or(Err(Refusal::TooSlow(WHOLE.as_secs())))
    }

    async fn collect(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        while let Some(part) = self.0.next().await {
            let part = part.map_err(|error| Refusal::BrokenOff(error.to_string()))?;
            if bytes.len() + part.len() > MAX_BYTES {
                return Err(Refusal::TooLarge);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// Reads what is left and forgets it, for a while.
    pub(super) async fn drain(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.0.next().await {} };
        // Whoever still sends after that is cut off.
        let _ = timeout(LET_GO, rest).await;
    }
}
