//! `GET /v1/events/live`: published events as server-sent events, without vectors. Vectors make up most of an event and
//! are of no use to a human reader.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chunk_sync_model::Event;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

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
            received = events.recv() => match received {
                Ok(event) => Some(published(&event)),
                Err(RecvError::Lagged(missed)) => Some(missing(missed)),
                Err(RecvError::Closed) => None,
            },
        };
        next.map(|event| (Ok::<_, Infallible>(event), (events, ending, permit)))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("listening");
    // Without this header, nginx buffers events until its buffer is full.
    Ok(([("x-accel-buffering", "no")], Sse::new(stream).keep_alive(keep_alive)).into_response())
}

fn published(event: &Event) -> sse::Event {
    let id = event.event_id.to_string();
    sse::Event::default().event("sync:event").id(id).data(without_vectors(event))
}

fn missing(missed: u64) -> sse::Event {
    sse::Event::default().event("sync:missed").data(json!({"missed": missed}).to_string())
}

/// The event as JSON, with the embeddings' metadata but without their numbers.
fn without_vectors(event: &Event) -> String {
    let json = event.to_json();
    let Ok(mut value) = serde_json::from_str::<Value>(&json) else {
        return json;
    };
    if let Some(embeddings) = value.pointer_mut("/chunk/embeddings").and_then(Value::as_object_mut) {
        embeddings.values_mut().for_each(strip);
    }
    value.to_string()
}

fn strip(embedding: &mut Value) {
    match embedding {
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Object(object) => {
            object.retain(|key, _| !matches!(key.as_str(), "vector" | "vector_b64" | "indices" | "values"));
        }
        _ => {}
    }
}
