//! The points service: writes, and reads by id or in order of id.

use std::time::Instant;

use ::qdrant_client::qdrant::points_server::Points;
use ::qdrant_client::qdrant::points_update_operation::PointStructList;
use ::qdrant_client::qdrant::*;
use ::qdrant_edge::{CountRequest, PayloadOps, Record, ScrollRequest, UpdateOperation};
use tonic::{Request, Response, Status};

use crate::convert::{filter, point_id, point_ids, told_id, told_point, with_payload, with_vectors};
use crate::operation::{self, apply};
use crate::service::{Service, seconds, service};

/// The default number of points of a page.
const PAGE: u32 = 10;

impl Service {
    /// Applies updates and returns one result per update: completed with `wait`, else acknowledged.
    async fn update(
        &self,
        name: String,
        operations: Vec<UpdateOperation>,
        wait: Option<bool>,
    ) -> Result<Vec<UpdateResult>, Status> {
        self.gate.pass().await;
        let (count, wait) = (operations.len(), wait.unwrap_or(false));
        self.on_collection(name, move |engine| apply(engine, operations, wait)).await?;
        let status = if wait { UpdateStatus::Completed } else { UpdateStatus::Acknowledged };
        Ok(vec![UpdateResult { operation_id: None, status: status.into() }; count])
    }

    async fn update_one(
        &self,
        name: String,
        operation: UpdateOperation,
        wait: Option<bool>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let begun = Instant::now();
        let result = self.update(name, vec![operation], wait).await?.pop();
        Ok(Response::new(PointsOperationResponse { result, time: seconds(begun), usage: None }))
    }

    fn told(&self, records: Vec<Record>) -> Vec<RetrievedPoint> {
        records.into_iter().map(|record| told_point(record, self.modern)).collect()
    }
}

service! { Points {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let UpsertPoints { collection_name, wait, points, shard_key_selector, update_filter, update_mode, .. } =
            request.into_inner();
        let list = PointStructList { points, shard_key_selector, update_filter, update_mode };
        self.update_one(collection_name, operation::upsert(list, self.modern)?, wait).await
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        self.update_one(request.collection_name, operation::delete(request.points)?, request.wait).await
    }

    async fn set_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let SetPayloadPoints { collection_name, wait, payload, points_selector, key, .. } = request.into_inner();
        let operation = operation::set_payload(payload, points_selector, key.as_deref(), PayloadOps::SetPayload)?;
        self.update_one(collection_name, operation, wait).await
    }

    async fn overwrite_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let SetPayloadPoints { collection_name, wait, payload, points_selector, key, .. } = request.into_inner();
        let operation = operation::set_payload(payload, points_selector, key.as_deref(), PayloadOps::OverwritePayload)?;
        self.update_one(collection_name, operation, wait).await
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let operation = operation::create_index(&request)?;
        self.update_one(request.collection_name, operation, request.wait).await
    }

    async fn create_vector_name(
        &self,
        request: Request<CreateVectorNameRequest>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        if !self.modern {
            return Err(Status::unimplemented(""));
        }
        let request = request.into_inner();
        let operation = operation::create_vector(request.vector_name, request.vector_config)?;
        self.update_one(request.collection_name, operation, request.wait).await
    }

    async fn update_batch(&self, request: Request<UpdateBatchPoints>) -> Result<Response<UpdateBatchResponse>, Status> {
        let begun = Instant::now();
        let UpdateBatchPoints { collection_name, wait, operations, .. } = request.into_inner();
        let operations = operations.into_iter().map(|told| operation::of_batch(told, self.modern));
        let operations = operations.collect::<Result<_, _>>()?;
        let result = self.update(collection_name, operations, wait).await?;
        Ok(Response::new(UpdateBatchResponse { result, time: seconds(begun), usage: None }))
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let (ids, payload) = (point_ids(request.ids)?, with_payload(request.with_payload)?);
        let vectors = with_vectors(request.with_vectors);
        let work = move |engine: &qdrant_edge::EdgeShard| engine.retrieve(&ids, Some(payload), Some(vectors));
        let records = self.on_collection(request.collection_name, work).await?;
        Ok(Response::new(GetResponse { result: self.told(records), time: seconds(begun), usage: None }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        if request.order_by.is_some() {
            return Err(Status::unimplemented("the test server scrolls only in order of id"));
        }
        let limit = request.limit.unwrap_or(PAGE);
        if limit == 0 {
            return Err(Status::invalid_argument("Validation error in body: limit: must be at least 1"));
        }
        let scroll = ScrollRequest {
            offset: request.offset.map(|offset| point_id(Some(offset))).transpose()?,
            limit: Some(limit as usize),
            filter: request.filter.map(filter).transpose()?,
            with_payload: Some(with_payload(request.with_payload)?),
            with_vector: with_vectors(request.with_vectors),
            ..ScrollRequest::default()
        };
        let (records, next) = self.on_collection(request.collection_name, move |engine| engine.scroll(scroll)).await?;
        let next_page_offset = next.map(told_id);
        Ok(Response::new(ScrollResponse { next_page_offset, result: self.told(records), time: seconds(begun), usage: None }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let filter = request.filter.map(filter).transpose()?;
        let count = CountRequest { filter, exact: request.exact.unwrap_or(true) };
        let count = self.on_collection(request.collection_name, move |engine| engine.count(count)).await?;
        let result = Some(CountResult { count: count as u64 });
        Ok(Response::new(CountResponse { result, time: seconds(begun), usage: None }))
    }
} refused {
    update_vectors: UpdatePointVectors => PointsOperationResponse,
    delete_vectors: DeletePointVectors => PointsOperationResponse,
    delete_payload: DeletePayloadPoints => PointsOperationResponse,
    clear_payload: ClearPayloadPoints => PointsOperationResponse,
    delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse,
    delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse,
    search: SearchPoints => SearchResponse,
    search_batch: SearchBatchPoints => SearchBatchResponse,
    search_groups: SearchPointGroups => SearchGroupsResponse,
    recommend: RecommendPoints => RecommendResponse,
    recommend_batch: RecommendBatchPoints => RecommendBatchResponse,
    recommend_groups: RecommendPointGroups => RecommendGroupsResponse,
    discover: DiscoverPoints => DiscoverResponse,
    discover_batch: DiscoverBatchPoints => DiscoverBatchResponse,
    query: QueryPoints => QueryResponse,
    query_batch: QueryBatchPoints => QueryBatchResponse,
    query_groups: QueryPointGroups => QueryGroupsResponse,
    facet: FacetCounts => FacetResponse,
    search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse,
    search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse,
} }
