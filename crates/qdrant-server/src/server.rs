//! The server: the services on a loopback port.

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

use crate::aliases::Aliases;
use crate::engines::Engines;
use crate::gate::Gate;
use crate::service::Service;

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The version that it reports and behaves like.
    pub(crate) version: String,
    /// The key that every call except the health check must send; `None` for no key.
    pub(crate) api_key: Option<String>,
    /// The loopback port; zero for any free one.
    pub(crate) port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: "1.18.1".to_owned(), api_key: None, port: 0 }
    }
}

/// A running server.
pub(crate) struct Server {
    address: SocketAddr,
    engines: Arc<Engines>,
    gate: Arc<Gate>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Starts a server on the collections below `dir`.
    ///
    /// # Errors
    /// The directory cannot be created or read, a collection in it cannot be loaded, or the port is in use.
    pub(crate) async fn start(dir: &Path, options: Options) -> io::Result<Self> {
        let dir = dir.to_owned();
        let open = move || Ok::<_, io::Error>((Engines::open(&dir)?, Aliases::open(&dir)?));
        let (engines, aliases) = tokio::task::spawn_blocking(open).await??;
        let (engines, aliases) = (Arc::new(engines), Arc::new(aliases));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let gate = Arc::new(Gate::default());
        let service = Service::new(Arc::clone(&engines), aliases, Arc::clone(&gate), &options.version);
        let keyed = keyed(options.api_key);
        let points = PointsServer::new(service.clone()).max_decoding_message_size(usize::MAX);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .add_service(QdrantServer::new(service.clone()))
            .add_service(InterceptedService::new(CollectionsServer::new(service), keyed.clone()))
            .add_service(InterceptedService::new(points, keyed))
            .serve_with_incoming_shutdown(incoming, async {
                // A dropped sender means to stop as well.
                let _ = stopped.await;
            });
        Ok(Self { address, engines, gate, stop, task: tokio::spawn(serving) })
    }

    /// The URL: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The gate at which updates can be held.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Answers the calls in progress, stops, and closes the collections.
    pub(crate) async fn stop(self) {
        // Dropping the sender stops the server.
        drop(self.stop);
        // A server that has failed has stopped as well.
        let _ = self.task.await;
        self.engines.close();
    }
}

/// Refuses calls without the right key, if a key is set.
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
