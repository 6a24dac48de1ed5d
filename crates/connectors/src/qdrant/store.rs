//! The projection. Writes each batch in one call after reading its versions, and halves it if the server refuses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Counts, Fault, FaultClass, Projection, StoredDocument, StoredFingerprint, Write,
};
use chunk_sync_model::document::Fingerprint;
use chunk_sync_model::{Limits, State, SyncVersion, Target};
use futures::{StreamExt, stream};
use qdrant_client::qdrant::{
    CountPoints, GetPoints, PayloadIncludeSelector, PointId, PointsUpdateOperation, ScrollPoints, UpdateBatchPoints,
    UpdateStatus, WithPayloadSelector, WithVectorsSelector, with_payload_selector, with_vectors_selector,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::config::QdrantConfig;
use super::encode::{VERSION, chunk_id, document, expected, point_id, version};
use super::fault::{Error, WRITE};
use super::plan::{Plan, plan};
use super::schema;
use super::server::Server;

const READ: &str = "qdrant: read";

/// Points in one message. The protocol does not limit the length of a message.
const BATCH: usize = 256;

/// Concurrent batches of one `apply`.
const STREAMS: usize = 2;

/// The vector projection in one Qdrant collection.
pub struct QdrantStore {
    pub(super) server: Server,
    pub(super) collection: String,
    limits: Arc<Limits>,
    /// Locked from reading the versions to writing the points, if the server does not compare versions itself.
    turn: Mutex<()>,
}

impl QdrantStore {
    /// A store on the server of `config`. The first call connects.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL or the API key is invalid, or if the server is on
    /// another machine, lacks TLS or an API key, and `allow_insecure` is off.
    pub fn new(config: &QdrantConfig) -> Result<Self, Fault> {
        Ok(Self {
            server: Server::new(config.client()?, config.timeout),
            collection: config.collection.clone(),
            limits: Arc::clone(&config.limits),
            turn: Mutex::new(()),
        })
    }

    /// Writes a batch. Halves it if the server refuses it, so that a write that can never succeed fails alone. Once
    /// `failed` holds a fault of the server, fails without a call, because each batch would wait for the timeout again.
    async fn persist(&self, batch: &[Write], failed: &OnceLock<Fault>) -> Vec<Applied> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let fault = match failed.get() {
                Some(fault) => fault.clone(),
                None => match self.write(part).await {
                    Ok(applied) => {
                        answers.extend(applied);
                        continue;
                    }
                    Err(error) if error.class() == FaultClass::Rejected && part.len() > 1 => {
                        let (front, back) = part.split_at(part.len() / 2);
                        parts.extend([back, front]);
                        continue;
                    }
                    Err(error) => error.into_fault(WRITE),
                },
            };
            if !matches!(fault.class, FaultClass::Busy | FaultClass::Rejected) {
                failed.get_or_init(|| fault.clone());
            }
            answers.extend(part.iter().map(|_| Applied::Failed(fault.clone())));
        }
        answers
    }

    /// Writes those of `part` that are newer than what the server stores. After an error any of them may be written.
    async fn write(&self, part: &[Write]) -> Result<Vec<Applied>, Error> {
        let server = self.server.version().await?;
        let _turn = if server.is_conditional() { None } else { Some(self.turn.lock().await) };
        let held = self.versions(part).await?;
        let Plan { operations, answers } = plan(part, &held, &self.limits, server);
        if !operations.is_empty() {
            self.update(operations).await?;
        }
        Ok(answers)
    }

    /// The stored versions of those chunks that exist.
    async fn versions(&self, writes: &[Write]) -> Result<HashMap<Uuid, SyncVersion>, Error> {
        let include = PayloadIncludeSelector { fields: vec![VERSION.to_owned()] };
        let request = GetPoints {
            collection_name: self.collection.clone(),
            ids: writes.iter().map(|write| point_id(write.id)).collect(),
            with_payload: Some(with_payload_selector::SelectorOptions::Include(include).into()),
            ..GetPoints::default()
        };
        let points = self.server.call(self.server.client.get_points(request)).await?.result;
        Ok(points.iter().filter_map(|point| Some((chunk_id(point.id.as_ref())?, version(&point.payload)))).collect())
    }

    /// Executes the operations. They are durable on return.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] if the server does not confirm an operation; else the error of the call. In both cases
    /// any operation may have been executed.
    async fn update(&self, operations: Vec<PointsUpdateOperation>) -> Result<(), Error> {
        let request = UpdateBatchPoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            operations,
            ..UpdateBatchPoints::default()
        };
        let results = self.server.call(self.server.client.update_points_batch(request)).await?.result;
        match results.iter().map(|result| result.status()).find(|status| *status != UpdateStatus::Completed) {
            Some(status) => Err(Error::Unconfirmed(status.as_str_name())),
            None => Ok(()),
        }
    }

    async fn points(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, StoredDocument>, Error> {
        let request = GetPoints {
            collection_name: self.collection.clone(),
            ids: ids.iter().copied().map(point_id).collect(),
            with_payload: Some(whole_payload()),
            with_vectors: Some(all_vectors()),
            ..GetPoints::default()
        };
        let points = self.server.call(self.server.client.get_points(request)).await?.result;
        Ok(points.into_iter().filter_map(document).map(|document| (document.id, document)).collect())
    }

    /// A page of points from `offset` on, inclusive, and the offset of the next page.
    async fn page(&self, offset: PointId, limit: usize) -> Result<(Vec<StoredFingerprint>, Option<PointId>), Error> {
        let request = ScrollPoints {
            collection_name: self.collection.clone(),
            offset: Some(offset),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(whole_payload()),
            with_vectors: Some(all_vectors()),
            ..ScrollPoints::default()
        };
        let page = self.server.call(self.server.client.scroll(request)).await?;
        let documents = page.result.into_iter().filter_map(document);
        Ok((documents.map(|document| document.seen()).collect(), page.next_page_offset))
    }
}

#[async_trait]
impl Projection for QdrantStore {
    fn target(&self) -> Target {
        Target::Qdrant
    }

    async fn prepare(&self) -> Result<(), Fault> {
        let prepared = schema::prepare(&self.server, &self.collection, &self.limits).await;
        prepared.map_err(|error| error.into_fault("qdrant: collection"))
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let failed = OnceLock::new();
        let batches: Vec<_> = writes.chunks(BATCH).map(|batch| self.persist(batch, &failed)).collect();
        let answers: Vec<_> = stream::iter(batches).buffered(STREAMS).collect().await;
        answers.concat()
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let mut found = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            found.extend(self.points(ids).await.map_err(|error| error.into_fault(READ))?);
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        let mut found = Vec::new();
        // The page includes its offset. Points with a numeric id come before all others.
        let mut next = Some(point_id(after.unwrap_or_default()));
        while let Some(offset) = next.filter(|_| found.len() < limit) {
            let wanted = (limit - found.len()).saturating_add(1).min(BATCH);
            let (page, following) = self.page(offset, wanted).await.map_err(|error| error.into_fault(READ))?;
            found.extend(page.into_iter().filter(|seen| after.is_none_or(|after| seen.id > after)));
            next = following;
        }
        found.truncate(limit);
        Ok(found)
    }

    fn expect(&self, state: &State) -> Fingerprint {
        expected(state, &self.limits)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let request =
            CountPoints { collection_name: self.collection.clone(), exact: Some(true), ..CountPoints::default() };
        let answer = self.server.call(self.server.client.count(request)).await;
        let count = answer.map_err(|error| error.into_fault(READ))?.result.unwrap_or_default();
        Ok(Counts { chunks: count.count, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        let collection = async {
            self.server.version().await?;
            // The server answers the health check without a key; only the collection call proves that the key is right.
            schema::fetch(&self.server, &self.collection).await
        };
        collection.await.map(drop).map_err(|error| error.into_fault("qdrant: check"))
    }
}

fn whole_payload() -> WithPayloadSelector {
    with_payload_selector::SelectorOptions::Enable(true).into()
}

fn all_vectors() -> WithVectorsSelector {
    with_vectors_selector::SelectorOptions::Enable(true).into()
}
