//! `POST /v1/events`: from a body to events on the bus. What an event may be is decided by the publisher; here it is taken
//! apart, and bounded in number, size and time.

mod body;
mod split;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chunk_sync_engine::Publisher;
use chunk_sync_model::{Event, Time};
use serde::Serialize;
use uuid::Uuid;

use super::refusal::Refusal;
use super::{Context, auth};
use body::Body;
use split::Form;

/// Events in one body, at most.
pub(super) const MAX_EVENTS: usize = 1_000;

/// Bytes of a body, at most.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bodies held in memory at once; more wait unread, and are asked to come again if that lasts.
pub(super) const AT_ONCE: usize = 4;

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// What became of the events of a body.
#[derive(Debug, Default, Serialize)]
struct Answer {
    accepted: Vec<Accepted>,
    rejected: Vec<Rejected>,
}

/// An event that is on the bus, durably.
#[derive(Debug, Serialize)]
struct Accepted {
    event_id: Uuid,
    entry_id: String,
}

/// An event that was refused.
#[derive(Debug, Serialize)]
struct Rejected {
    /// Its place among the events of the body, from 0; blank lines do not count.
    index: usize,
    field: String,
    error: String,
}

/// Puts the events that keep the rules on the bus: 202 with what became of each, 400 where none was accepted.
pub(super) async fn publish(State(context): State<Arc<Context>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = Body::new(body);
    match take(&context, &parts.headers, &mut body).await {
        Ok(answer) if answer.accepted.is_empty() => (StatusCode::BAD_REQUEST, Json(answer)).into_response(),
        Ok(answer) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
        Err(refusal) => {
            body.drain().await;
            refusal.into_response()
        }
    }
}

async fn take(context: &Context, headers: &HeaderMap, body: &mut Body) -> Result<Answer, Refusal> {
    auth::check(context.app.http.token.as_ref(), headers)?;
    let form = Form::of(headers)?;
    let turn = tokio::time::timeout(TURN, context.bodies.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(Refusal::TooManyBodies);
    };
    let bytes = body.read(headers).await?;
    let publisher = context.app.publisher.clone();
    // A large body takes a while to read, and the worker's threads have other things to do.
    let (events, rejected) = tokio::task::spawn_blocking(move || read(&publisher, form, &bytes)).await??;
    let accepted = if events.is_empty() { Vec::new() } else { put(&context.app.publisher, events).await? };
    Ok(Answer { accepted, rejected })
}

fn read(publisher: &Publisher, form: Form, bytes: &[u8]) -> Result<(Vec<Event>, Vec<Rejected>), Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| Refusal::NotUtf8(error.valid_up_to()))?;
    let now: Time = jiff::Timestamp::now().into();
    let (mut events, mut rejected) = (Vec::new(), Vec::new());
    for (index, json) in form.split(text)?.into_iter().enumerate() {
        match publisher.parse(json, now) {
            Ok(event) => events.push(event),
            Err(invalid) => rejected.push(Rejected { index, field: invalid.field, error: invalid.message }),
        }
    }
    Ok((events, rejected))
}

async fn put(publisher: &Publisher, events: Vec<Event>) -> Result<Vec<Accepted>, Refusal> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let entries = publisher.publish(events).await.map_err(Refusal::Bus)?;
    let accepted = ids.into_iter().zip(entries);
    Ok(accepted.map(|(event_id, entry)| Accepted { event_id, entry_id: entry.to_string() }).collect())
}
