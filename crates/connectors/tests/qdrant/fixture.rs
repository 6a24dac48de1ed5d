//! A collection per test.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_model::Limits;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};
use qdrant_client::Qdrant;
use tempfile::TempDir;
use uuid::Uuid;

/// A test server with a store on it.
pub(crate) struct Vectors {
    pub(crate) config: QdrantConfig,
    pub(crate) store: Arc<QdrantStore>,
    server: Option<QdrantServer>,
    dir: TempDir,
    options: Options,
}

impl Vectors {
    /// Starts a test server that behaves like `version`, and creates the collection.
    pub(crate) async fn of(version: &str) -> Self {
        let vectors = Self::bare(Options { version: version.to_owned(), ..Options::default() }).await;
        vectors.store.prepare().await.unwrap();
        vectors
    }

    /// Starts a test server without a collection.
    pub(crate) async fn bare(options: Options) -> Self {
        let dir = TempDir::new().unwrap();
        let server = QdrantServer::start(dir.path(), &options).await;
        let config = QdrantConfig::new(server.url(), Arc::new(Limits::default()));
        let store = Arc::new(QdrantStore::new(&config).unwrap());
        Self { config, store, server: Some(server), dir, options }
    }

    pub(crate) fn server(&mut self) -> &mut QdrantServer {
        self.server.as_mut().unwrap()
    }

    /// Another store on the same collection, as another process would have it.
    pub(crate) fn another(&self) -> Arc<QdrantStore> {
        Arc::new(QdrantStore::new(&self.config).unwrap())
    }

    /// A client of the server, as another program would use it.
    pub(crate) fn raw(&self) -> Qdrant {
        Qdrant::from_url(&self.config.url).skip_compatibility_check().build().unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    /// Starts the server again, on the same port and data.
    pub(crate) async fn start(&mut self) {
        let port = self.config.url.rsplit(':').next().unwrap().parse().unwrap();
        let options = Options { port, ..self.options.clone() };
        self.server = Some(QdrantServer::start(self.dir.path(), &options).await);
    }
}

/// Applies writes and asserts that the store wrote all of them.
pub(crate) async fn written(store: &QdrantStore, writes: &[Write]) {
    for (write, applied) in writes.iter().zip(store.apply(writes).await) {
        assert!(matches!(applied, Applied::Written), "{}: {applied:?}", write.id);
    }
}

/// Asserts that the store holds exactly this write.
pub(crate) async fn holds(store: &QdrantStore, write: &Write) {
    let seen = store.fetch_documents(&[write.id]).await.unwrap().remove(0);
    match (&write.state, seen) {
        (None, None) => {}
        (Some(state), Some(seen)) => {
            assert_eq!(seen.version, write.version);
            assert_eq!(seen.document.differing(&store.expect(state)), Vec::<String>::new());
        }
        (state, seen) => panic!("the store holds {seen:?}, expected version {:?} of {state:?}", write.version),
    }
}

/// The server of `QDRANT_URL`, with a collection per test, or else a current test server.
pub(crate) enum Today {
    Real { config: QdrantConfig, store: Arc<QdrantStore>, raw: Box<Qdrant> },
    Ours(Box<Vectors>),
}

#[async_trait]
impl Fixture for Today {
    type Port = dyn Projection;

    async fn fresh() -> Self {
        let Ok(url) = std::env::var("QDRANT_URL") else {
            return Self::Ours(Box::new(Vectors::of("1.18.1").await));
        };
        let raw = Qdrant::from_url(&url).skip_compatibility_check().timeout(Duration::from_secs(60)).build().unwrap();
        let collection = format!("chunk_sync_test_{}", Uuid::new_v4().simple());
        let config = QdrantConfig {
            collection,
            allow_insecure: true,
            api_key: std::env::var("QDRANT_API_KEY").ok().map(Into::into),
            ..QdrantConfig::new(url, Arc::new(Limits::default()))
        };
        let store = Arc::new(QdrantStore::new(&config).unwrap());
        store.prepare().await.expect("the Qdrant of QDRANT_URL must create a collection");
        Self::Real { config, store, raw: Box::new(raw) }
    }

    fn port(&self) -> Arc<dyn Projection> {
        match self {
            Self::Real { store, .. } => store.clone(),
            Self::Ours(vectors) => vectors.store.clone(),
        }
    }

    async fn reopen(&mut self) {
        match self {
            Self::Real { config, store, .. } => *store = Arc::new(QdrantStore::new(config).unwrap()),
            Self::Ours(vectors) => restart(vectors).await,
        }
    }
}

impl Drop for Today {
    fn drop(&mut self) {
        if let Self::Real { config, raw, .. } = self {
            let delete = raw.delete_collection(&config.collection);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(delete)).unwrap();
        }
    }
}

/// A test server of a version without conditional upserts.
pub(crate) struct Older(Vectors);

#[async_trait]
impl Fixture for Older {
    type Port = dyn Projection;

    async fn fresh() -> Self {
        Self(Vectors::of("1.15.5").await)
    }

    fn port(&self) -> Arc<dyn Projection> {
        self.0.store.clone()
    }

    async fn reopen(&mut self) {
        restart(&mut self.0).await;
    }
}

/// Restarts the server and opens the store again.
async fn restart(vectors: &mut Vectors) {
    vectors.stop().await;
    vectors.start().await;
    vectors.store = vectors.another();
}
