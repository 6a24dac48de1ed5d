//! Whatever is published, told to whoever listens, as server-sent events. Vectors are left out: they are most of an event,
//! and nobody reads them by eye.

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

/// Listeners at once.
pub(super) const AT_ONCE: usize = 64;

/// How often a silent stream shows that it is still there; proxies close what says nothing for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Every event published from now on. A listener that is too slow is told how many it missed, and goes on from there.
pub(super) async fn listen(State(context): State<Arc<Context>>) -> Result<Response, Refusal> {
    let place = Arc::clone(&context.listeners).try_acquire_owned().map_err(|_| Refusal::TooManyListeners)?;
    let heard = (context.app.publisher.subscribe(), context.ending.clone(), place);
    let stream = unfold(heard, |(mut events, mut ending, place)| async move {
        let next = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => None,
            received = events.recv() => match received {
                Ok(event) => Some(told(&event)),
                Err(RecvError::Lagged(missed)) => Some(missing(missed)),
                Err(RecvError::Closed) => None,
            },
        };
        next.map(|event| (Ok::<_, Infallible>(event), (events, ending, place)))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("listening");
    // nginx would hold events back until its buffer is full.
    Ok(([("x-accel-buffering", "no")], Sse::new(stream).keep_alive(keep_alive)).into_response())
}

fn told(event: &Event) -> sse::Event {
    let id = event.event_id.to_string();
    sse::Event::default().event("sync:event").id(id).data(without_vectors(event))
}

fn missing(missed: u64) -> sse::Event {
    sse::Event::default().event("sync:missed").data(json!({"missed": missed}).to_string())
}

/// The event as JSON; of its embeddings only what they are.
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
