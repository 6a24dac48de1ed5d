//! `POST /v1/events`: splits a request body into events, limits their number, size and time, and publishes them. The
//! publisher validates each event.

mod body;
mod split;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chunk_sync_engine::{Publisher, repeated};
use chunk_sync_model::{Event, Time};
use serde::Serialize;
use uuid::Uuid;

use super::connections::Connection;
use super::json::Json;
use super::refusal::Refusal;
use super::{Context, rates};
use body::Body;
use split::Form;

/// Maximum number of bodies in memory. More requests wait unread for up to [`TURN`] and are then refused with 429.
pub(super) const AT_ONCE: usize = 4;

/// How long a request waits until its body may be read.
const TURN: Duration = Duration::from_secs(5);

/// How long a publisher waits to be told which of its events are repeated.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// The response: the outcome for each event of the body.
#[derive(Debug, Default, Serialize)]
struct Answer {
    accepted: Vec<Accepted>,
    rejected: Vec<Rejected>,
}

/// An event that is durably on the bus.
#[derive(Debug, Serialize)]
struct Accepted {
    event_id: Uuid,
    entry_id: String,
    /// It was merged before and changes nothing; left out where it is not, or where that is unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

/// An event that was refused.
#[derive(Debug, Serialize)]
struct Rejected {
    /// Its index among the events of the body, from 0; blank lines do not count.
    index: usize,
    field: String,
    error: String,
}

/// Publishes the valid events of the body. Responds with 202 and the outcome for each event, with 400 if none was
/// accepted, or with the status of the refusal.
pub(super) async fn publish(State(context): State<Arc<Context>>, request: Request) -> Response {
    let connection = rates::of(&request);
    let (parts, body) = request.into_parts();
    let mut body = Body::new(body);
    match take(&context, &parts.headers, connection, &mut body).await {
        Ok(answer) if answer.accepted.is_empty() => (StatusCode::BAD_REQUEST, Json(answer)).into_response(),
        Ok(answer) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
        Err(refusal) => {
            body.drain().await;
            refusal.into_response()
        }
    }
}

async fn take(
    context: &Context,
    headers: &HeaderMap,
    connection: Connection,
    body: &mut Body,
) -> Result<Answer, Refusal> {
    context.check_token(headers, connection)?;
    let form = Form::of(headers)?;
    let turn = tokio::time::timeout(TURN, context.bodies.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(Refusal::TooManyBodies);
    };
    let bytes = body.read(headers).await?;
    let publisher = context.app.publisher.clone();
    // Parsing a large body would block a thread of the runtime that the worker needs.
    let (events, rejected) = tokio::task::spawn_blocking(move || read(&publisher, form, &bytes)).await??;
    let accepted = if events.is_empty() { Vec::new() } else { put(context, events).await? };
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

async fn put(context: &Context, events: Vec<Event>) -> Result<Vec<Accepted>, Refusal> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    // While the system of record does not answer, events are accepted all the same.
    let repeated = tokio::time::timeout(KNOWN_WITHIN, repeated(&*context.app.ports.records, &events)).await;
    let repeated = repeated.ok().and_then(Result::ok).unwrap_or_else(|| vec![false; ids.len()]);
    let entries = context.app.publisher.publish(events).await.map_err(Refusal::Bus)?;
    let accepted = ids.into_iter().zip(entries).zip(repeated);
    let accepted = accepted.map(|((event_id, entry), repeated)| {
        let entry_id = entry.to_string();
        Accepted { event_id, entry_id, repeated }
    });
    Ok(accepted.collect())
}
