//! Which server takes the writes, and logging on to it.
//!
//! With `bolt://` it is the named server. With `neo4j://` the named server is asked for the routing table of the database;
//! the table is kept for as long as it states, or until a server turns out not to be the leader. Reads go to the leader
//! too: another server may lag behind, and a comparison would find differences that are none.
//!
//! A refused login is not repeated for a while: Neo4j locks a user for some seconds after three refused logins, for every
//! program that logs on as this user.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::Fault;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::bolt::{Address, Connection, Credentials, Request, Route, Statement};
use super::config::Neo4jConfig;
use super::fault::Error;

/// The pause after a refused login.
const LOGIN_PAUSE: Duration = Duration::from_secs(60);

/// The database that knows the others.
const SYSTEM: &str = "system";

const DATABASES: &str = "SHOW DATABASES YIELD name WHERE name <> 'system' RETURN DISTINCT name ORDER BY name LIMIT 20";

/// The way to the leader.
pub(super) struct Leader {
    /// The address of the configuration.
    named: Address,
    tls: Option<TlsConnector>,
    credentials: Credentials,
    route: Mutex<Option<KnownRoute>>,
    generation: AtomicU64,
    refused: Mutex<Option<RefusedLogin>>,
}

struct KnownRoute {
    route: Route,
    until: Instant,
}

struct RefusedLogin {
    refusal: String,
    until: Instant,
}

impl Leader {
    pub(super) fn new(config: &Neo4jConfig) -> Result<Self, Fault> {
        let named = config.address()?;
        Ok(Self {
            tls: config.connector(&named)?,
            named,
            credentials: Credentials { user: config.user.clone(), password: config.password.clone() },
            route: Mutex::default(),
            generation: AtomicU64::new(0),
            refused: Mutex::default(),
        })
    }

    /// Changes whenever another server may have become the leader; connections of an older generation are not used.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The leader of that generation is not to be used any more.
    pub(super) fn forget(&self, generation: u64) {
        if self.generation.compare_exchange(generation, generation + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let mut known = lock(&self.route);
            // Its routers may still know the new leader.
            if let Some(known) = &mut *known {
                known.until = Instant::now();
            }
        }
    }

    /// A new connection to the leader of the database, and its generation.
    pub(super) async fn connect(&self, database: &str) -> Result<(Connection, u64), Error> {
        let generation = self.generation();
        let address = if self.named.routed { self.writer(database).await? } else { self.named.clone() };
        match self.open(&address).await {
            Ok(connection) => Ok((connection, generation)),
            Err(error) => {
                if error.wants_another_server() {
                    self.forget(generation);
                }
                Err(error)
            }
        }
    }

    /// The error for a database that does not exist: the message lists those that do.
    pub(super) async fn no_database(&self, database: &str) -> Error {
        let found = async {
            let mut connection = self.open(&self.named).await?;
            connection.request(&Request::Begin(SYSTEM, Duration::from_secs(5)));
            connection.request(&Request::Run(&Statement::new(DATABASES)));
            connection.request(&Request::Pull);
            connection.finish().await
        };
        let rows = found.await.unwrap_or_default().into_iter().flatten();
        let names: Vec<String> = rows.filter_map(|row| Some(format!("`{}`", row.text("name")?))).collect();
        let known = match names.is_empty() {
            true => "the user may not list those that exist (SHOW DATABASES)".to_owned(),
            false => format!("the server has {}", names.join(", ")),
        };
        Error::Setup(format!(
            "the database `{database}` does not exist; {known}; set neo4j.database to one of them, or create it (CREATE \
             DATABASE, not in the community edition)"
        ))
    }

    /// The address that takes writes, from the known table or a new one.
    async fn writer(&self, database: &str) -> Result<Address, Error> {
        let (fresh, routers) = match &*lock(&self.route) {
            Some(known) if Instant::now() < known.until => (Some(known.route.clone()), Vec::new()),
            Some(known) => (None, known.route.routers.clone()),
            None => (None, Vec::new()),
        };
        let route = match fresh {
            Some(route) => route,
            None => self.ask(&routers, database).await?,
        };
        let Some(writer) = route.writers.first() else { return Err(Error::NoLeader) };
        // The address by which a single server knows itself may be one inside of a container.
        if route.single { Ok(self.named.clone()) } else { self.named.at(writer).map_err(Error::Setup) }
    }

    /// Asks the named server for the table, then the routers of the last table.
    async fn ask(&self, routers: &[String], database: &str) -> Result<Route, Error> {
        let (mut answer, named) = (self.table(&self.named, database).await, self.named.authority());
        for router in routers.iter().filter(|router| **router != named) {
            if answer.as_ref().is_ok_and(|route| !route.writers.is_empty()) {
                break;
            }
            let other = self.table(&self.named.at(router).map_err(Error::Setup)?, database).await;
            answer = other.or(answer);
        }
        let route = match answer {
            Err(error) if error.is_no_database() => return Err(self.no_database(database).await),
            answer => answer?,
        };
        let until = Instant::now() + route.valid;
        // A table without a leader is not kept, except for its routers.
        let until = if route.writers.is_empty() { Instant::now() } else { until };
        *lock(&self.route) = Some(KnownRoute { route: route.clone(), until });
        Ok(route)
    }

    async fn table(&self, router: &Address, database: &str) -> Result<Route, Error> {
        self.open(router).await?.route(&self.named.authority(), database).await
    }

    /// Connects and logs on, unless the server refused that a moment ago.
    async fn open(&self, address: &Address) -> Result<Connection, Error> {
        if let Some(error) = self.still_refused() {
            return Err(error);
        }
        match Connection::open(address, self.tls.as_ref(), &self.credentials).await {
            Err(error) if error.is_refused_login() => {
                let mut refused = lock(&self.refused);
                // The server then reports a limit of its rate, and no longer the wrong password.
                let refusal = refused.take().map_or_else(|| error.to_string(), |before| before.refusal);
                *refused = Some(RefusedLogin { refusal: refusal.clone(), until: Instant::now() + LOGIN_PAUSE });
                Err(Error::Login { refusal, pause: LOGIN_PAUSE })
            }
            Ok(connection) => {
                *lock(&self.refused) = None;
                Ok(connection)
            }
            failed => failed,
        }
    }

    fn still_refused(&self) -> Option<Error> {
        let refused = lock(&self.refused);
        let RefusedLogin { refusal, until } = refused.as_ref()?;
        let pause = until.checked_duration_since(Instant::now()).filter(|pause| !pause.is_zero())?;
        Some(Error::Login { refusal: refusal.clone(), pause })
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
