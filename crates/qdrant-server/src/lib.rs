//! A server for tests: Qdrant's own gRPC protocol on loopback, Qdrant's own engine behind it, for where no Qdrant is at
//! hand. It knows the calls by which chunks are written and read back, and answers `Unimplemented` to all others.
//!
//! What is told as completed is on disk. There is one shard and no search, and segments are not merged. Announcing a
//! version before 1.16 it behaves like one: it ignores the condition of an upsert, and vectors in typed fields.

mod collections;
mod convert;
mod engines;
mod gate;
mod operation;
mod points;
mod service;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use engines::Engines;
use gate::Gate;
use service::Service;

pub use gate::Held;

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version that it announces, and whose behaviour it has.
    pub version: String,
    /// The key without which it tells nothing but its health.
    pub api_key: Option<String>,
    /// The port; any free one if zero.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: "1.18.1".to_owned(), api_key: None, port: 0 }
    }
}

/// A running server. Dropped, it closes its collections at once, and its port soon; [`stop`](Self::stop) waits for both.
pub struct TestServer {
    address: SocketAddr,
    engines: Arc<Engines>,
    gate: Arc<Gate>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl TestServer {
    /// Starts a server on the collections below `dir`.
    ///
    /// # Errors
    /// Where the directory cannot be read, or the port cannot be had.
    pub async fn start(dir: &Path, options: Options) -> io::Result<Self> {
        let dir = dir.to_owned();
        let engines = Arc::new(tokio::task::spawn_blocking(move || Engines::open(&dir)).await??);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let gate = Arc::new(Gate::default());
        let service = Service::new(Arc::clone(&engines), Arc::clone(&gate), &options.version);
        let keyed = keyed(options.api_key);
        let points = PointsServer::new(service.clone()).max_decoding_message_size(usize::MAX);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .add_service(QdrantServer::new(service.clone()))
            .add_service(InterceptedService::new(CollectionsServer::new(service), keyed.clone()))
            .add_service(InterceptedService::new(points, keyed))
            .serve_with_incoming_shutdown(incoming, async {
                // Dropped or sent, either means to stop.
                let _ = stopped.await;
            });
        Ok(Self { address, engines, gate, stop: Some(stop), task: tokio::spawn(serving) })
    }

    /// Where it is reached: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds the next update that comes, and none after it: it takes effect when it is let go.
    #[must_use]
    pub fn hold_next_update(&self) -> Held {
        self.gate.hold_next()
    }

    /// Stops, when the calls under way are answered, and closes the collections.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // A server that failed is stopped as well.
        let _ = (&mut self.task).await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.engines.close();
    }
}

/// Refuses calls without the key, where there is one.
fn keyed(key: Option<String>) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| {
        let given = request.metadata().get("api-key").map(|key| key.as_bytes());
        match &key {
            Some(key) if given != Some(key.as_bytes()) => {
                Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token"))
            }
            _ => Ok(request),
        }
    }
}
