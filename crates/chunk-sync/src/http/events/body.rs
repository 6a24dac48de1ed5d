//! Reads a request body within limits of size and time, or drains it so that the client can read the response.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures::StreamExt;
use tokio::time::timeout;

use crate::http::refusal::MAX_BYTES;
use crate::http::refusal::Refusal;

/// Deadline for reading a body.
const WHOLE: Duration = Duration::from_secs(60);

/// How long the rest of a refused body is drained. Many clients read the response only after they have sent the whole
/// body, and would not see it if the server closed the connection before.
const DRAIN: Duration = Duration::from_secs(5);

/// A body that has not been read to its end.
pub(super) struct Body(BodyDataStream);

impl Body {
    pub(super) fn new(body: axum::body::Body) -> Self {
        Self(body.into_data_stream())
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] above [`MAX_BYTES`], by `Content-Length` or by what arrives; [`Refusal::TooSlow`] after
    /// [`WHOLE`]; [`Refusal::BrokenOff`] if the connection breaks.
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

    /// Reads and discards the rest of the body for up to [`DRAIN`].
    pub(super) async fn drain(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.0.next().await {} };
        // The connection of a client that still sends after that is closed.
        let _ = timeout(DRAIN, rest).await;
    }
}
