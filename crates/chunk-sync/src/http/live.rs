//! `GET /v1/events/live`: published events as server-sent events, without vectors. Vectors make up most of an event and
//! are of no use to a human reader.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chunk_sync_engine::{Heard, Published};
use futures::stream::unfold;
use serde_json::json;

use super::Context;
use super::refusal::Refusal;

/// Maximum number of listeners.
pub(super) const AT_ONCE: usize = 64;

/// Interval of keep-alive comments on an idle stream. Proxies close connections that are idle for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams every event that is published from now on, as `sync:event`. A listener that is too slow receives
/// `sync:missed` with the number of events that it missed, and then the events after those.
///
/// # Errors
/// [`Refusal::TooManyListeners`] if [`AT_ONCE`] listeners are connected.
pub(super) async fn listen(State(context): State<Arc<Context>>) -> Result<Response, Refusal> {
    let permit = Arc::clone(&context.listeners).try_acquire_owned().map_err(|_| Refusal::TooManyListeners)?;
    let subscription = (context.app.publisher.subscribe(), context.ending.clone(), permit);
    let stream = unfold(subscription, |(mut events, mut ending, permit)| async move {
        let next = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => None,
            heard = events.next() => heard.map(|heard| match heard {
                Heard::Event(event) => published(&event),
                Heard::Missed(missed) => missing(missed),
            }),
        };
        next.map(|event| (Ok::<_, Infallible>(event), (events, ending, permit)))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("listening");
    // Without this header, nginx buffers events until its buffer is full.
    Ok(([("x-accel-buffering", "no")], Sse::new(stream).keep_alive(keep_alive)).into_response())
}

fn published(event: &Published) -> sse::Event {
    sse::Event::default().event("sync:event").id(event.event_id.to_string()).data(&event.json)
}

fn missing(missed: u64) -> sse::Event {
    sse::Event::default().event("sync:missed").data(json!({"missed": missed}).to_string())
}
