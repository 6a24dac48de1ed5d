//! A database per test on one of the servers, with direct access to it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chunk_sync_connectors::postgres::{PostgresConfig, PostgresLease, PostgresRecords};
use chunk_sync_engine::ports::{Lease, Projection, Records, SystemOfRecord as _};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::installation::Home;
use chunk_sync_testkit::lease::LeaseFixture;
use chunk_sync_testkit::merging::RowsAsStore;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Row};
use uuid::Uuid;

use crate::pooler::Pooler;

/// A server, named by an environment variable.
pub(crate) trait Server: Send + Sync + 'static {
    const VARIABLE: &'static str;
    /// The mode of the pooler before it.
    const POOLER: Option<&'static str> = None;
}

/// PostgreSQL 15 without pgvector.
pub(crate) struct Pg15;
/// PostgreSQL 18 with pgvector.
pub(crate) struct Pg18;

/// PostgreSQL 18 behind a pooler that gives every transaction to another of its servers.
pub(crate) struct Pooled18;

impl Server for Pooled18 {
    const VARIABLE: &'static str = Pg18::VARIABLE;
    const POOLER: Option<&'static str> = Some("transaction");
}

impl Server for Pg15 {
    const VARIABLE: &'static str = "CHUNK_SYNC_TEST_PG15_URL";
}

impl Server for Pg18 {
    const VARIABLE: &'static str = "CHUNK_SYNC_TEST_PG18_URL";
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set; these tests create and drop databases on PostgreSQL 15 without pgvector \
             (CHUNK_SYNC_TEST_PG15_URL) and on PostgreSQL 18 with pgvector (CHUNK_SYNC_TEST_PG18_URL); set both to \
             postgres://user:password@127.0.0.1:5432/postgres"
        )
    })
}

pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("cannot connect to the server");
    tokio::spawn(connection);
    client
}

/// A database. Dropping this value drops it.
pub(crate) struct Database {
    server: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pooler: Option<Pooler>,
}

impl Database {
    pub(crate) async fn fresh<S: Server>() -> Self {
        let server = server(S::VARIABLE);
        let name = format!("chunk_sync_test_{}", Uuid::new_v4().simple());
        let (prefix, _) = server.rsplit_once('/').expect("the URL must end in a database name");
        let url = format!("{prefix}/{name}");
        client(&server).await.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
        let pooler = match S::POOLER {
            Some(mode) => Some(Pooler::start(&url, mode, "").await),
            None => None,
        };
        Self { server, name, url, pooler }
    }

    /// A copy of the database under another name.
    pub(crate) async fn copied(&self) -> Self {
        let (server, name) = (self.server.clone(), format!("{}_copy", self.name));
        let url = self.url.replace(&self.name, &name);
        let admin = client(&server).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name);
        admin.batch_execute(&end).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", self.name)).await.unwrap();
        Self { server, name, url, pooler: None }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        let url = self.pooler.as_ref().map_or_else(|| self.url.clone(), |pooler| pooler.url(&self.url));
        PostgresConfig::new(url.as_str().into(), Arc::default())
    }

    /// Connects to the database without creating any tables.
    pub(crate) async fn records(&self) -> PostgresRecords {
        PostgresRecords::connect(self.config()).await.unwrap()
    }

    pub(crate) async fn prepared(&self) -> PostgresRecords {
        let records = self.records().await;
        records.prepare().await.unwrap();
        records
    }

    /// Runs statements as another program.
    pub(crate) async fn meddle(&self, statements: &str) {
        self.client().await.batch_execute(statements).await.unwrap();
    }

    pub(crate) async fn one(&self, query: &str) -> Row {
        self.client().await.query_one(query, &[]).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.url).await
    }

    /// Creates a role with these attributes, for this database only.
    pub(crate) async fn role(&self, attributes: &str) -> Role<'_> {
        let name = format!("{}_role", self.name);
        self.meddle(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw' {attributes}")).await;
        let (_, environment) = self.url.rsplit_once('@').expect("the URL must contain a user");
        Role { url: format!("postgres://{name}:pw@{environment}"), name, database: self }
    }
}

/// A role, dropped together with the database.
pub(crate) struct Role<'a> {
    pub(crate) name: String,
    url: String,
    database: &'a Database,
}

impl Role<'_> {
    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig { url: self.url.as_str().into(), ..self.database.config() }
    }
}

/// Executes a statement; repeats it for 10 s while its object is in use: a slot whose creation the server refused is active
/// until the server has cleaned it up.
pub(crate) async fn execute_when_free(client: &Client, statement: &str) {
    let began = Instant::now();
    while let Err(error) = client.batch_execute(statement).await {
        let in_use = error.code() == Some(&SqlState::OBJECT_IN_USE);
        assert!(in_use && began.elapsed() < Duration::from_secs(10), "{statement}: {error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.pooler = None;
        let server = self.server.clone();
        let statements =
            [format!("DROP DATABASE {} WITH (FORCE)", self.name), format!("DROP ROLE IF EXISTS {}_role", self.name)];
        // A runtime on another thread: the runtime of the test may be waiting for this thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client(&server).await;
                for statement in statements {
                    execute_when_free(&client, &statement).await;
                }
            });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

macro_rules! fixture {
    ($name:ident, $port:ty) => {
        fixture!($name, $port, |records| records);
    };
    ($name:ident, $port:ty, $made:expr) => {
        pub(crate) struct $name<S> {
            records: Arc<PostgresRecords>,
            database: Database,
            server: PhantomData<S>,
        }

        #[async_trait]
        impl<S: Server> Fixture for $name<S> {
            type Port = $port;

            async fn fresh() -> Self {
                let database = Database::fresh::<S>().await;
                let records = Arc::new(database.prepared().await);
                Self { records, database, server: PhantomData }
            }

            fn port(&self) -> Arc<$port> {
                let made: fn(Arc<PostgresRecords>) -> Arc<$port> = $made;
                made(Arc::clone(&self.records))
            }

            async fn reopen(&mut self) {
                self.records = Arc::new(self.database.records().await);
            }
        }
    };
}

fixture!(AsStore, dyn Projection, |records| Arc::new(RowsAsStore(records)));
fixture!(AsRecords, dyn Records);
fixture!(AsHome, dyn Home);

/// The lease of a database of its own.
pub(crate) struct AsLease<S> {
    // Closed before the database is dropped.
    records: Arc<PostgresRecords>,
    database: Database,
    server: PhantomData<S>,
}

#[async_trait]
impl<S: Server> Fixture for AsLease<S> {
    type Port = dyn Lease;

    async fn fresh() -> Self {
        let database = Database::fresh::<S>().await;
        Self { records: Arc::new(database.prepared().await), database, server: PhantomData }
    }

    fn port(&self) -> Arc<dyn Lease> {
        Arc::new(PostgresLease::new(Arc::clone(&self.records), "no_slot").unwrap())
    }

    async fn reopen(&mut self) {
        self.records = Arc::new(self.database.records().await);
    }
}

impl<S: Server> LeaseFixture for AsLease<S> {
    fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.records) as _
    }
}
