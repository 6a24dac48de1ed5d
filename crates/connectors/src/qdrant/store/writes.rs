//! Requests of guarded writes.

use std::collections::HashMap;
use std::sync::OnceLock;

use chunk_sync_engine::ports::{Applied, Fault, FaultClass, Write};
use prost::Message;
use qdrant_client::qdrant::{GetPoints, PointsUpdateOperation, UpdateBatchPoints, UpdateStatus};
use uuid::Uuid;

use super::QdrantStore;
use crate::qdrant::encode::{StoredPoint, chunk_id, foreign_payload, point_id};
use crate::qdrant::fault::Error;
use crate::qdrant::plan::{Plan, plan};

/// Concurrent requests of one `apply`.
pub(super) const STREAMS: usize = 2;

impl QdrantStore {
    /// Executes one request. Once `failed` holds a fault of the server, fails without a call, because each request
    /// would wait for the timeout again.
    pub(super) async fn persist(&self, request: &[Write], failed: &OnceLock<Fault>) -> Vec<Applied> {
        let fault = match failed.get() {
            Some(fault) => fault.clone(),
            None => match self.write(request).await {
                Ok(applied) => return applied,
                Err(error) => {
                    self.learn(&error).await;
                    error.of_write(request.len())
                }
            },
        };
        if fault.is_of_server() || (fault.class == FaultClass::Busy && self.paused().is_some()) {
            failed.get_or_init(|| fault.clone());
        }
        vec![Applied::Failed(fault); request.len()]
    }

    /// Writes those of `writes` that are newer than what the server stores. After an error any of them may be written.
    async fn write(&self, writes: &[Write]) -> Result<Vec<Applied>, Error> {
        let server = self.server.version().await?;
        let _turn = if server.is_conditional() { None } else { Some(self.turn.lock().await) };
        let held = self.held(writes).await?;
        let Plan { operations, answers } = plan(writes, held, &self.limits, server);
        let bytes = operations.iter().map(Message::encoded_len).sum();
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
