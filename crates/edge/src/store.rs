//! The engine as one of the stores.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, Fault, FaultClass, Looked, Seen, Store, Write};
use chunk_sync_model::document::{Fingerprint, VectorDocument};
use chunk_sync_model::{Limits, State, SyncVersion, Target};
use qdrant_edge::{
    CountRequest, EdgeShard, OperationError, PayloadOps, PointInsertOperations, PointOperations, ScrollRequest,
    SetPayloadOp, UpdateOperation, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use crate::encode::{check, looked, payload, point, point_id, version};
use crate::layout::VERSION;
use crate::shard::{CONTEXT, Shard, fault};

/// Vectors and payloads of all chunks in one directory.
#[derive(Clone)]
pub struct EdgeStore {
    shard: Arc<Shard>,
    limits: Arc<Limits>,
}

impl EdgeStore {
    /// Opens or creates the collection below `dir`. Blocks.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) where the directory was made for other embedding models.
    pub fn open(dir: &Path, limits: Arc<Limits>) -> Result<Self, Fault> {
        Ok(Self { shard: Arc::new(Shard::open(dir, &limits)?), limits })
    }

    /// Merges segments and builds their indexes; whether there was anything to do. The engine never does so by itself, and
    /// nothing is written meanwhile: call it when the work is done. Blocks, for minutes where there are very many points.
    ///
    /// # Errors
    /// What the engine says.
    pub fn optimize(&self) -> Result<bool, Fault> {
        let engine = self.shard.engine()?;
        let optimized = engine.optimize().map_err(|error| fault(&error))?;
        engine.flush();
        Ok(optimized)
    }

    /// Runs `work` on a thread that may block, alone.
    async fn on_engine<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&EdgeShard, &Limits) -> Result<T, OperationError> + Send + 'static,
    {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let engine = store.shard.engine()?;
            work(&engine, &store.limits).map_err(|error| fault(&error))
        });
        // The engine panics where its disk fails.
        done.await.unwrap_or_else(|panic| Err(Fault::new(FaultClass::Unavailable, CONTEXT, panic)))
    }
}

#[async_trait]
impl Store for EdgeStore {
    fn target(&self) -> Target {
        Target::Qdrant
    }

    async fn prepare(&self) -> Result<(), Fault> {
        // Made when it was opened.
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let owned = writes.to_vec();
        let applied = self.on_engine(move |engine, limits| apply(engine, limits, &owned)).await;
        applied.unwrap_or_else(|fault| vec![Applied::Failed(fault); writes.len()])
    }

    async fn look(&self, ids: &[Uuid]) -> Result<Vec<Option<Looked>>, Fault> {
        let asked = ids.to_vec();
        let work = move |engine: &EdgeShard, _: &Limits| {
            let points: Vec<_> = asked.iter().copied().map(point_id).collect();
            engine.retrieve(&points, Some(true.into()), Some(WithVector::Bool(true)))
        };
        let records = self.on_engine(work).await?;
        let looked = records.into_iter().filter_map(looked);
        let mut found: HashMap<Uuid, Looked> = looked.map(|looked| (looked.id, looked)).collect();
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Seen>, Fault> {
        let work = move |engine: &EdgeShard, _: &Limits| {
            let request = ScrollRequest {
                // The offset itself is part of the answer.
                offset: Some(point_id(after.unwrap_or_default())),
                limit: Some(limit.saturating_add(1)),
                with_payload: Some(WithPayloadInterface::Bool(true)),
                with_vector: WithVector::Bool(true),
                ..ScrollRequest::default()
            };
            Ok(engine.scroll(request)?.0)
        };
        let records = self.on_engine(work).await?;
        let above = records.into_iter().filter_map(looked).filter(|looked| after.is_none_or(|after| looked.id > after));
        Ok(above.take(limit).map(|looked| looked.seen()).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        VectorDocument::of(state, &self.limits).fingerprint()
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let count = |engine: &EdgeShard, _: &Limits| engine.count(CountRequest { filter: None, exact: true });
        Ok(Counts { chunks: self.on_engine(count).await? as u64, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        self.on_engine(|_, _| Ok(())).await
    }
}

/// What is to be done with one chunk.
enum Step {
    Skip,
    Refuse(Fault),
    Delete,
    /// Only the payload: the vectors are there already.
    Overwrite(VectorDocument),
    Upsert(VectorDocument),
}

fn apply(engine: &EdgeShard, limits: &Limits, writes: &[Write]) -> Result<Vec<Applied>, OperationError> {
    let held = versions(engine, writes)?;
    let steps: Vec<Step> = writes.iter().map(|write| step(write, held.get(&write.id).copied(), limits)).collect();
    let (mut points, mut deletes) = (Vec::new(), Vec::new());
    for (write, step) in writes.iter().zip(&steps) {
        match step {
            Step::Upsert(document) => points.push(point(write.id, write.version, document)),
            Step::Delete => deletes.push(point_id(write.id)),
            Step::Overwrite(document) => {
                let payload = payload(document, write.version);
                let points = Some(vec![point_id(write.id)]);
                let operation = SetPayloadOp { payload, points, filter: None, key: None };
                engine.update(UpdateOperation::PayloadOperation(PayloadOps::OverwritePayload(operation)))?;
            }
            Step::Skip | Step::Refuse(_) => {}
        }
    }
    if !points.is_empty() {
        let upsert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        engine.update(UpdateOperation::PointOperation(upsert))?;
    }
    if !deletes.is_empty() {
        let delete = PointOperations::DeletePoints { ids: deletes };
        engine.update(UpdateOperation::PointOperation(delete))?;
    }
    if steps.iter().any(|step| !matches!(step, Step::Skip | Step::Refuse(_))) {
        engine.flush();
    }
    let applied = |step| match step {
        Step::Skip => Applied::Skipped,
        Step::Refuse(fault) => Applied::Failed(fault),
        Step::Delete | Step::Overwrite(_) | Step::Upsert(_) => Applied::Written,
    };
    Ok(steps.into_iter().map(applied).collect())
}

/// The versions of those chunks that are held.
fn versions(engine: &EdgeShard, writes: &[Write]) -> Result<HashMap<Uuid, SyncVersion>, OperationError> {
    let points: Vec<_> = writes.iter().map(|write| point_id(write.id)).collect();
    let field = VERSION.parse().map_err(|()| OperationError::service_error("the version has no path"))?;
    let records = engine.retrieve(&points, Some(WithPayloadInterface::Fields(vec![field])), None)?;
    let held = records.into_iter().filter_map(|record| match record.id {
        qdrant_edge::PointId::Uuid(id) => Some((id, version(&record))),
        qdrant_edge::PointId::NumId(_) => None,
    });
    Ok(held.collect())
}

fn step(write: &Write, held: Option<SyncVersion>, limits: &Limits) -> Step {
    if held.is_some_and(|held| held >= write.version) {
        return Step::Skip;
    }
    let Some(state) = &write.state else {
        return Step::Delete;
    };
    if let Err(fault) = check(state, limits) {
        return Step::Refuse(fault);
    }
    let document = VectorDocument::of(state, limits);
    // A point of version zero is somebody else's, vectors and all.
    match held {
        Some(held) if held >= write.vectors_since && held > SyncVersion::default() => Step::Overwrite(document),
        _ => Step::Upsert(document),
    }
}
