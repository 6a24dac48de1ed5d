//! Batches of guarded writes.

use std::collections::HashMap;
use std::sync::OnceLock;

use chunk_sync_engine::ports::{Applied, Fault, FaultClass, Write};
use prost::Message;
use qdrant_client::qdrant::{GetPoints, PointsUpdateOperation, UpdateBatchPoints, UpdateStatus};
use uuid::Uuid;

use super::QdrantStore;
use crate::qdrant::encode::{StoredPoint, chunk_id, foreign_payload, point_id};
use crate::qdrant::fault::{Error, WRITE};
use crate::qdrant::plan::{Plan, plan};

/// Concurrent batches of one `apply`.
pub(super) const STREAMS: usize = 2;

impl QdrantStore {
    /// Writes a batch. Halves it if the server refuses it, so that a write that can never succeed fails alone. Once
    /// `failed` holds a fault of the server, fails without a call, because each batch would wait for the timeout again.
    pub(super) async fn persist(&self, batch: &[Write], failed: &OnceLock<Fault>) -> Vec<Applied> {
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
                    Err(error) => {
                        self.learn(&error).await;
                        if error.wants_less() && part.len() > 1 {
                            let (front, back) = part.split_at(part.len() / 2);
                            parts.extend([back, front]);
                            continue;
                        }
                        error.into_fault(WRITE)
                    }
                },
            };
            if self.paused().is_some() || !matches!(fault.class, FaultClass::Busy | FaultClass::Rejected) {
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
        let held = self.held(part).await?;
        let Plan { operations, answers } = plan(part, held, &self.limits, server);
        let bytes = operations.iter().map(Message::encoded_len).sum();
        if bytes > self.bytes.most() && part.len() > 1 {
            return Err(Error::TooLong { bytes: 2 * self.bytes.most(), message: "it was learnt before".to_owned() });
        }
        match self.update(operations).await {
            Err(error) if error.is_length() => Err(Error::TooLong { bytes, message: error.to_string() }),
            done => done.map(|()| answers),
        }
    }

    /// What the server holds of those chunks that exist: their versions, and what other programs added to their payload.
    async fn held(&self, writes: &[Write]) -> Result<HashMap<Uuid, StoredPoint>, Error> {
        let request = GetPoints {
            collection_name: self.collection.clone(),
            ids: writes.iter().map(|write| point_id(write.id)).collect(),
            with_payload: Some(foreign_payload()),
            ..GetPoints::default()
        };
        let points = self.server.call(self.server.client.get_points(request)).await?.result;
        Ok(points
            .into_iter()
            .filter_map(|point| Some((chunk_id(point.id.as_ref())?, StoredPoint::of(point.payload))))
            .collect())
    }

    /// Executes the operations. They are durable on return.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] if the server does not confirm an operation; else the error of the call. In both cases
    /// any operation may have been executed.
    async fn update(&self, operations: Vec<PointsUpdateOperation>) -> Result<(), Error> {
        if operations.is_empty() {
            return Ok(());
        }
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
}
