//! `GET /openapi.json`: the description of every route.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// The document; a test compares it with the router.
pub(super) const DOCUMENT: &str = include_str!("page/openapi.json");

pub(super) async fn show() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}
