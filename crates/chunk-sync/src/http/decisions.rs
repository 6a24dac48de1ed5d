//! The conflicts and the dead letters, and what the operator decides on a dead letter.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Uri;
use chunk_sync_engine::dead;
use chunk_sync_engine::ports::{ConflictFilter, ConflictPage, EntryId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Context;
use super::abridge::{abridge, abridged};
use super::json::Json;
use super::query::{Query, id};
use super::refusal::Refusal;
use crate::letters::{self, Dead, Line, Whole};

/// Maximum number of conflicts, or dead letters, in one answer.
const MOST: usize = 100;

type Answer = Result<Json<Value>, Refusal>;

/// `GET /v1/conflicts`: the recorded conflicts, newest first, each with its four sides; vectors are shortened.
pub(super) async fn conflicts(State(context): State<Arc<Context>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(MOST)?;
    let filter = ConflictFilter {
        chunk: query.take::<Uuid>("chunk")?,
        open: query.take::<bool>("open")?.unwrap_or_default(),
        below: query.take::<u64>("below")?.map(number).transpose()?,
        ..ConflictFilter::default()
    };
    query.end()?;
    let records = &context.app.ports.records;
    let ConflictPage { entries, more } = records.conflicts(&filter, limit).await.map_err(Refusal::Store)?;
    let open = records.open_conflicts().await.map_err(Refusal::Store)?;
    let conflicts: Vec<Value> = entries.iter().map(abridged).collect();
    Ok(Json(json!({"conflicts": conflicts, "more": more, "open": open})))
}

/// The number of a conflict. Numbers above 2^53 - 1 are none: JSON readers do not keep them exact.
fn number(number: u64) -> Result<u64, Refusal> {
    match number {
        ..=0x1f_ffff_ffff_ffff => Ok(number),
        _ => Err(Refusal::Parameter("below".to_owned(), "must be at most 9007199254740991".to_owned())),
    }
}

/// `GET /v1/dead`: the dead letters, oldest first, without their fields.
pub(super) async fn dead_letters(State(context): State<Arc<Context>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let (limit, after) = (query.limit(MOST)?, query.take::<EntryId>("after")?);
    query.end()?;
    let app = &context.app;
    let found = app.ports.bus.dead(after, limit).await.map_err(Refusal::Store)?;
    let total = app.ports.bus.depth().await.map_err(Refusal::Store)?.dead;
    // A page is bounded by bytes too: a short one need not be the last.
    let more = match found.last() {
        Some(last) => !app.ports.bus.dead(Some(last.id), 1).await.map_err(Refusal::Store)?.is_empty(),
        None => false,
    };
    let read = letters::read(&app.ports, &app.publisher, found).await.map_err(Refusal::Store)?;
    let lines: Vec<Line> = read.iter().map(Line::of).collect();
    Ok(Json(json!({"dead": lines, "more": more, "total": total})))
}

/// `GET /v1/dead/{id}`: one dead letter with its fields; vectors in JSON are shortened.
pub(super) async fn dead_letter(State(context): State<Arc<Context>>, Path(text): Path<String>, uri: Uri) -> Answer {
    Query::of(&uri)?.end()?;
    let mut whole = serde_json::to_value(Whole::of(&find(&context, &text).await?)).unwrap_or_default();
    for field in whole["fields"].as_array_mut().into_iter().flatten() {
        let json = field["value"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(mut value) = json.filter(Value::is_object) {
            abridge(&mut value);
            field["value"] = serde_json::to_string_pretty(&value).unwrap_or_default().into();
        }
    }
    Ok(Json(whole))
}

/// `POST /v1/dead/{id}/retry`: publishes the event of a dead letter again, then drops the letter.
pub(super) async fn retry(State(context): State<Arc<Context>>, Path(text): Path<String>, uri: Uri) -> Answer {
    Query::of(&uri)?.end()?;
    let found = find(&context, &text).await?;
    let event = found.event.map_err(|invalid| Refusal::Invalid(invalid.field, invalid.message))?;
    let (chunk, event_id, letter) = (event.chunk_id(), event.event_id, found.letter.id);
    let app = &context.app;
    let entry = dead::retry(&*app.ports.bus, &app.publisher, letter, dead::again(event, None)).await;
    let entry = entry.map_err(Refusal::Bus)?.map(|entry| entry.to_string());
    Ok(Json(json!({"id": letter.to_string(), "chunk": chunk, "event_id": event_id, "entry_id": entry})))
}

/// `POST /v1/dead/{id}/drop`: deletes a dead letter.
pub(super) async fn drop_letter(State(context): State<Arc<Context>>, Path(text): Path<String>, uri: Uri) -> Answer {
    Query::of(&uri)?.end()?;
    let letter = id::<EntryId>(&text)?;
    match context.app.ports.bus.drop_dead(letter).await.map_err(Refusal::Store)? {
        true => Ok(Json(json!({"id": letter.to_string(), "dropped": true}))),
        false => Err(Refusal::NoLetter(letter)),
    }
}

async fn find(context: &Context, text: &str) -> Result<Dead, Refusal> {
    let (letter, app) = (id::<EntryId>(text)?, &context.app);
    let found = letters::find(&app.ports, letter).await.map_err(Refusal::Store)?;
    let read = letters::read(&app.ports, &app.publisher, Vec::from_iter(found)).await.map_err(Refusal::Store)?;
    read.into_iter().next().ok_or(Refusal::NoLetter(letter))
}
