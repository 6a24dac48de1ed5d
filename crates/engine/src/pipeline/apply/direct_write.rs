//! Direct writes: changes that another program made in Qdrant or Neo4j, past the service. The worker finds them by
//! reading the stores before it merges a chunk: always where verification has found the chunk to differ, and before
//! every merge if `detect` is set to `Always`. Putting back or merging a direct write is part of the merge's
//! transaction, and reaches every store with the other results of that merge.
//!
//! A read is valid only for its moment: a direct write made after the read and before the next write of the service is
//! overwritten undetected. A store that is failing is not read, and the answer of one that is late is not waited for,
//! so that an unreachable store stops only itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::merge::{Change, Direct, Found, Strategies, Strategy, merge};
use chunk_sync_model::{EventType, Limits, Part, Record, State, Target, Time, Writer};
use tracing::{info, warn};
use uuid::Uuid;

use crate::pipeline::apply::conflict_notes::ConflictNotes;
use crate::pipeline::envelope::Operation;
use crate::ports::{Projection, StoredDocument};
use crate::runtime::settings::{Detect, DirectSettings, DirectWrites};

/// The documents that the stores hold for some chunks, by chunk id.
pub(crate) type StoreSnapshots = BTreeMap<Uuid, Vec<(Writer, StoredDocument)>>;

/// Reads the chunks of these operations from all `stores`: of every operation with [`Detect::Always`], else of repairs
/// only. A store that fails or does not answer within `patience` is left out.
pub(crate) async fn look(
    stores: &[&Arc<dyn Projection>],
    operations: &[&Operation],
    detect: Detect,
    patience: Duration,
) -> StoreSnapshots {
    let wanted = operations.iter().filter(|operation| detect == Detect::Always || operation.is_repair());
    let mut ids: Vec<Uuid> = wanted.map(|operation| operation.event.chunk_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut snapshots = StoreSnapshots::new();
    if ids.is_empty() {
        return snapshots;
    }
    let ids = &ids;
    let asked = stores.iter().map(|store| async move {
        let answer = tokio::time::timeout(patience, store.fetch_documents(ids)).await;
        (store.target(), answer)
    });
    for (target, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(Ok(looked)) => {
                for looked in looked.into_iter().flatten() {
                    snapshots.entry(looked.id).or_default().push((writer(target), looked));
                }
            }
            Ok(Err(fault)) => info!(%target, %fault, "could not look for direct writes; merging without"),
            Err(_) => info!(%target, "no answer in time on direct writes; merging without"),
        }
    }
    snapshots
}

fn writer(target: Target) -> Writer {
    match target {
        Target::Postgres => Writer::Postgres,
        Target::Qdrant => Writer::Qdrant,
        Target::Neo4j => Writer::Neo4j,
    }
}

/// The direct writes among `snapshots`: what differs from what the service had written there. `record` and `state` are the
/// chunk's before anything else of it is merged. A time later than `latest` is not accepted.
pub(crate) fn found(
    snapshots: Option<&Vec<(Writer, StoredDocument)>>,
    record: Option<&Record>,
    state: Option<&State>,
    rules: (&Strategies, &Limits),
    latest: Time,
) -> Vec<Direct> {
    let (Some(record), Some(state)) = (record, state) else {
        return Vec::new();
    };
    let direct = |(writer, looked): &(Writer, StoredDocument)| {
        let found = Found { writer: *writer, version: looked.version, document: &looked.document };
        Direct::of(record, state, found, rules, latest)
    };
    snapshots.into_iter().flatten().filter_map(direct).collect()
}

/// Record and state of a chunk while it is merged.
pub(crate) struct MergeState {
    pub(crate) record: Record,
    pub(crate) state: Option<Arc<State>>,
    pub(crate) vectors_changed: bool,
}

/// Reverts a direct write or merges it, as `settings.writes` requires, and records which of its parts are lost. Either
/// way the chunk gets a new version, so that the store accepts the next write of the service.
pub(crate) fn resolve(
    id: Uuid,
    direct: &Direct,
    held: MergeState,
    (settings, strategies, limits): (&DirectSettings, &Strategies, &Limits),
    notes: &mut ConflictNotes,
) -> MergeState {
    let Some(before) = held.state.clone() else {
        return held;
    };
    let merges = settings.writes == DirectWrites::Merge;
    let view = if merges { direct.view(&before, limits) } else { None };
    if merges && view.is_none() {
        warn!(chunk = %id, store = %direct.writer, "the direct write is not a valid chunk; reverted to the row");
    }
    let merging = match &view {
        Some(view) => {
            let change = Change {
                writer: direct.writer,
                time: direct.time,
                event: Uuid::new_v5(&id, format!("{} {}", direct.writer, held.record.version).as_bytes()),
                kind: EventType::Update,
                view: Some(view),
                unchanged: &[],
                set: &[],
            };
            let merged = merge(Some(held.record), held.state, &change, strategies).renewed();
            notes.note(direct.writer, merged.record.version, merged.decided, merged.conflicts);
            let vectors_changed = held.vectors_changed || merged.vectors_changed;
            MergeState { record: merged.record, state: merged.state, vectors_changed }
        }
        None => {
            let mut record = held.record;
            record.version = record.version.next(record.newest_change());
            MergeState { record, ..held }
        }
    };
    let strategy = |part: &Part| if view.is_some() { strategies.of(part) } else { Strategy::TargetWins };
    let conflicts = direct.conflicts(&merging.record, &before, merging.state.as_deref(), strategy);
    notes.note(direct.writer, merging.record.version, Vec::new(), conflicts);
    MergeState { vectors_changed: merging.vectors_changed || direct.has_vectors(), ..merging }
}
