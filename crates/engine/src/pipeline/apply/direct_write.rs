//! What somebody wrote into Qdrant or Neo4j past the service. It is found by looking before a chunk is merged: always where
//! verification has found the chunk to differ, and before every merge where the settings say so. What is done about it is
//! part of the merge's transaction, and reaches every store with what else that came to.
//!
//! A look is as good as its moment: what is written after it, and before the next write of ours, is written over unseen. A
//! store that is failing, or does not answer in time, is not looked at, for a dead store stops only itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::merge::{Change, Direct, Found, Strategies, Strategy, merge};
use chunk_sync_model::{EventType, Limits, Part, Record, State, Target, Time, Writer};
use tracing::{info, warn};
use uuid::Uuid;

use crate::pipeline::apply::conflict_notes::Journal;
use crate::pipeline::envelope::Operation;
use crate::ports::{Looked, Store};
use crate::runtime::settings::{Detect, DirectSettings, DirectWrites};

/// What the stores were found to hold of some chunks.
pub(crate) type Looks = BTreeMap<Uuid, Vec<(Writer, Looked)>>;

/// Looks at the chunks of these operations in all `stores`, as far as the settings want it. A store that does not answer
/// within `patience` is passed over.
pub(crate) async fn look(
    stores: &[&Arc<dyn Store>],
    operations: &[&Operation],
    detect: Detect,
    patience: Duration,
) -> Looks {
    let wanted = operations.iter().filter(|operation| detect == Detect::Always || operation.is_repair());
    let mut ids: Vec<Uuid> = wanted.map(|operation| operation.event.chunk_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut looks = Looks::new();
    if ids.is_empty() {
        return looks;
    }
    let ids = &ids;
    let asked = stores.iter().map(|store| async move {
        let answer = tokio::time::timeout(patience, store.look(ids)).await;
        (store.target(), answer)
    });
    for (target, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(Ok(looked)) => {
                for looked in looked.into_iter().flatten() {
                    looks.entry(looked.id).or_default().push((writer(target), looked));
                }
            }
            Ok(Err(fault)) => info!(%target, %fault, "could not look for what others wrote there"),
            Err(_) => info!(%target, "no answer in time on what others wrote there"),
        }
    }
    looks
}

fn writer(target: Target) -> Writer {
    match target {
        Target::Postgres => Writer::Postgres,
        Target::Qdrant => Writer::Qdrant,
        Target::Neo4j => Writer::Neo4j,
    }
}

/// What was written into the stores on top of what the service had written there. `record` and `state` are what is held
/// before anything else of the chunk is merged; no time beyond `latest` is believed.
pub(crate) fn found(
    looks: Option<&Vec<(Writer, Looked)>>,
    record: Option<&Record>,
    state: Option<&State>,
    rules: (&Strategies, &Limits),
    latest: Time,
) -> Vec<Direct> {
    let (Some(record), Some(state)) = (record, state) else {
        return Vec::new();
    };
    let direct = |(writer, looked): &(Writer, Looked)| {
        let found = Found { writer: *writer, version: looked.version, document: &looked.document };
        Direct::of(record, state, found, rules, latest)
    };
    looks.into_iter().flatten().filter_map(direct).collect()
}

/// What is held of a chunk while it is merged.
pub(crate) struct Merging {
    pub(crate) record: Record,
    pub(crate) state: Option<Arc<State>>,
    pub(crate) vectors_changed: bool,
}

/// Puts a direct write back, or merges it, as the settings say, and takes down what of it is lost. Either way the chunk
/// gets a new version, under which the store takes what we write.
pub(crate) fn settle(
    id: Uuid,
    direct: &Direct,
    held: Merging,
    (settings, strategies, limits): (&DirectSettings, &Strategies, &Limits),
    journal: &mut Journal,
) -> Merging {
    let Some(before) = held.state.clone() else {
        return held;
    };
    let merges = settings.writes == DirectWrites::Merge;
    let view = if merges { direct.view(&before, limits) } else { None };
    if merges && view.is_none() {
        warn!(chunk = %id, store = %direct.writer, "what somebody wrote there keeps no rule of a chunk: put back");
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
            journal.note(direct.writer, merged.record.version, merged.decided, merged.conflicts);
            let vectors_changed = held.vectors_changed || merged.vectors_changed;
            Merging { record: merged.record, state: merged.state, vectors_changed }
        }
        None => {
            let mut record = held.record;
            record.version = record.version.next(record.newest_change());
            Merging { record, ..held }
        }
    };
    let strategy = |part: &Part| if view.is_some() { strategies.of(part) } else { Strategy::TargetWins };
    let conflicts = direct.conflicts(&merging.record, &before, merging.state.as_deref(), strategy);
    journal.note(direct.writer, merging.record.version, Vec::new(), conflicts);
    Merging { vectors_changed: merging.vectors_changed || direct.has_vectors(), ..merging }
}
