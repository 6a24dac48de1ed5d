//! How long a change takes until a store holds it: from the time at which its entry was added to the bus, or at which its
//! row was committed, until the answer of the store.

use std::collections::{HashMap, HashSet};

use chunk_sync_model::{Target, Time, Writer};
use futures::future::join_all;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::pipeline::envelope::Operation;
use crate::pipeline::store_writer::WriteResult;
use crate::pipeline::worker::Worker;
use crate::ports::Write;

/// Per chunk of a batch, when its oldest change was made. Replayed operations are left out: they waited for a start.
struct Origins(HashMap<Uuid, Time>);

impl Origins {
    fn of(operations: &[Operation]) -> Self {
        let mut origins = HashMap::new();
        for operation in operations {
            if let Some(origin) = origin(operation) {
                let of_chunk = origins.entry(operation.event.chunk_id()).or_insert(origin);
                *of_chunk = origin.min(*of_chunk);
            }
        }
        Self(origins)
    }
}

fn origin(operation: &Operation) -> Option<Time> {
    let entry = operation.entry.as_ref()?;
    match operation.event.writer {
        // The time of a captured change is that of its commit.
        Writer::Postgres => Some(operation.event.timestamp),
        _ => Some(entry.id.time()),
    }
}

impl Worker {
    /// Waits until every store writer has answered, and notes how long the changes took in each store, the system of record
    /// included. An answer is an error if the store writer has ended.
    pub(crate) async fn await_answers(
        &self,
        operations: &[Operation],
        writes: &[Write],
        merged_at: Time,
        answers: Vec<(Target, oneshot::Receiver<Vec<WriteResult>>)>,
    ) -> Vec<(Target, Result<Vec<WriteResult>, oneshot::error::RecvError>)> {
        let origins = Origins::of(operations);
        self.note_visible(Target::Postgres, writes.iter(), &origins, merged_at);
        self.progress.held(Target::Postgres, operations.iter());
        let waiting = answers.into_iter().map(|(target, answer)| async move {
            let answer = answer.await;
            self.note_held(target, operations, writes, answer.as_deref().unwrap_or_default());
            (target, answer, self.clock.now())
        });
        let mut answered = Vec::new();
        for (target, answer, at) in join_all(waiting).await {
            let results = answer.as_deref().unwrap_or_default();
            let durable = writes.iter().zip(results).filter(|(_, result)| matches!(result, WriteResult::Durable));
            self.note_visible(target, durable.map(|(write, _)| write), &origins, at);
            answered.push((target, answer));
        }
        answered
    }

    /// Notes that the store holds these writes since `at`.
    fn note_visible<'a>(&self, target: Target, writes: impl Iterator<Item = &'a Write>, origins: &Origins, at: Time) {
        let origins = writes.filter_map(|write| origins.0.get(&write.id));
        self.progress.visible(target, origins.map(|origin| at.seconds_since(*origin).max(0.0)), at);
    }

    /// Notes which operations the store holds: all but those with a write that it has not made durable.
    fn note_held(&self, target: Target, operations: &[Operation], writes: &[Write], results: &[WriteResult]) {
        let durable = |place: usize| matches!(results.get(place), Some(WriteResult::Durable));
        let open = writes.iter().enumerate().filter(|(place, _)| !durable(*place));
        let open: HashSet<Uuid> = open.map(|(_, write)| write.id).collect();
        self.progress.held(target, operations.iter().filter(|operation| !open.contains(&operation.event.chunk_id())));
    }
}
