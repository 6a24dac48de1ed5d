//! The state that the services share, the health check, and the dispatch of calls to an engine.

use std::sync::Arc;
use std::time::Instant;

use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use qdrant_edge::{EdgeShard, OperationError};
use tonic::{Request, Response, Status};

use crate::aliases::Aliases;
use crate::engines::{Engines, refusal};
use crate::gate::Gate;

/// All three services of the protocol.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) engines: Arc<Engines>,
    pub(crate) aliases: Arc<Aliases>,
    pub(crate) gate: Arc<Gate>,
    version: Arc<str>,
    /// Whether the version is 1.16 or later, with conditional upserts and typed vector fields.
    pub(crate) modern: bool,
}

impl Service {
    pub(crate) fn new(engines: Arc<Engines>, aliases: Arc<Aliases>, gate: Arc<Gate>, version: &str) -> Self {
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        let modern = (numbers.next(), numbers.next()) >= (Some(1), Some(16));
        Self { engines, aliases, gate, version: version.into(), modern }
    }

    /// Runs `work` on the collection of this name or alias, on a blocking thread.
    pub(crate) async fn on_collection<T, F>(&self, name: String, work: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&EdgeShard) -> Result<T, OperationError> + Send + 'static,
    {
        let (engines, name) = (Arc::clone(&self.engines), self.aliases.resolve(name));
        blocking(move || {
            let engine = engines.get(&name)?;
            let engine = engine.lock().map_err(|_| Status::internal("the engine failed in an earlier call"))?;
            let engine = engine.as_ref().ok_or_else(|| Status::unavailable("the collection is closed"))?;
            work(engine).map_err(|error| refusal(&error))
        })
        .await
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Status::internal(panic.to_string())))
}

/// Seconds since `since`, for the field `time` of answers.
pub(crate) fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        let title = "qdrant - vector search engine".to_owned();
        Ok(Response::new(HealthCheckReply { title, version: self.version.to_string(), commit: None }))
    }
}

/// Implements a service of the protocol: the given methods, and `Unimplemented` for the listed calls.
macro_rules! service {
    ($service:ident { $($written:tt)* } refused { $($call:ident: $asked:ty => $answer:ty),* $(,)? }) => {
        #[tonic::async_trait]
        impl $service for crate::service::Service {
            $($written)*
            $(
                async fn $call(
                    &self,
                    _: tonic::Request<$asked>,
                ) -> Result<tonic::Response<$answer>, tonic::Status> {
                    Err(tonic::Status::unimplemented(concat!("the test server does not support ", stringify!($call))))
                }
            )*
        }
    };
}
pub(crate) use service;
