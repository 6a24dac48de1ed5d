//! A trigger on the table: it alters the content and adds a key. Applied to its own result it changes nothing.

use std::sync::Arc;

use chunk_sync_model::merge::{Strategies, stored_as};
use chunk_sync_model::{Record, State};

/// What the trigger makes of a row.
pub(super) fn stored(state: &State) -> State {
    let mut state = state.clone();
    if !state.chunk.content.ends_with(MARK) {
        state.chunk.content.push_str(MARK);
    }
    state.chunk.metadata.extra.insert("stored_by".to_owned(), "trigger".into());
    state
}

const MARK: &str = " (stored)";

/// Record and state of a chunk after the trigger altered the row that a merge sent.
pub(super) fn expected(record: Record, sent: &State) -> (Record, Option<Arc<State>>) {
    let row = stored(sent);
    (stored_as(record, sent, &row, &Strategies::default()), Some(Arc::new(row)))
}
