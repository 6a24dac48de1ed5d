//! The projection. Writes a batch in the requests that it plans, each after reading its versions.
//!
//! A request has as many points and bytes as the collection and the proxies before the server permit, as far as the
//! store knows; a refusal for its size teaches it. If the server limits the rate of writes, every write fails as busy
//! until the time that the server names, without a call; a read waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, Projection, StoredDocument, Write};
use chunk_sync_model::document::{Document, VectorDocument};
use chunk_sync_model::{Limits, State, Target};
use futures::{StreamExt, stream};
use qdrant_client::qdrant::{
    CountPoints, GetPoints, PointId, ScrollPoints, WithPayloadSelector, WithVectorsSelector, with_payload_selector,
    with_vectors_selector,
};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::bounds::{Bounds, Bytes, ReadSize, weight};
use super::config::QdrantConfig;
use super::encode::{document, point_id};
use super::fault::Error;
use super::schema;
use super::server::Server;

mod writes;

use writes::STREAMS;

const READ: &str = "qdrant: read";

/// The vector projection in one Qdrant collection.
pub struct QdrantStore {
    pub(super) server: Server,
    pub(super) collection: String,
    pub(super) limits: Arc<Limits>,
    /// Locked from reading the versions to writing the points, if the server does not compare versions itself.
    turn: Mutex<()>,
    /// The limits of the collection; `None` before they are read, and after the server refused a request for its size.
    bounds: Mutex<Option<Bounds>>,
    bytes: Bytes,
    read_size: ReadSize,
    /// The server asked for no write before this time.
    pause: std::sync::Mutex<Option<Instant>>,
}

/// The longest time that a read waits for the server's rate limit.
const PATIENCE: Duration = Duration::from_secs(120);

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
            bounds: Mutex::default(),
            bytes: Bytes::default(),
            read_size: ReadSize::default(),
            pause: std::sync::Mutex::default(),
        })
    }

    /// The name of the collection, if the configuration names an alias of it. Servers take aliases where points are read
    /// and written, and not where aliases and collections are.
    pub(super) async fn resolved(&self) -> Result<String, Error> {
        match self.server.call(self.server.client.list_aliases()).await {
            // A stand-in for a server may have no aliases, and a key for one collection may not see them.
            Err(error) if error.is_unknown_call() || error.is_denied() => Ok(self.collection.clone()),
            found => {
                let mut aliases = found?.aliases.into_iter();
                let named = aliases.find(|alias| alias.alias_name == self.collection);
                Ok(named.map_or_else(|| self.collection.clone(), |alias| alias.collection_name))
            }
        }
    }

    /// The limits of the collection, read when they are not known.
    async fn bounds(&self) -> Result<Bounds, Error> {
        let mut known = self.bounds.lock().await;
        match *known {
            Some(bounds) => Ok(bounds),
            None => Ok(*known.insert(Bounds::of(&schema::fetch(&self.server, &self.collection).await?))),
        }
    }

    /// The time that is left of the pause that the server asked for.
    fn paused(&self) -> Option<Duration> {
        let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Adapts to a refusal.
    async fn learn(&self, error: &Error) {
        if let Some(after) = error.retry_after() {
            *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + after);
        }
        if let Error::TooLong { bytes, .. } = error {
            self.bytes.refused(*bytes);
        }
        if error.is_request_limit() {
            *self.bounds.lock().await = None;
        }
    }

    /// Repeats a read for as long as the server's rate limit refuses it, up to [`PATIENCE`].
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(&self, read: impl Fn() -> F) -> Result<T, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            match read().await {
                Err(error) => match error.retry_after() {
                    Some(after) if Instant::now() + after < end => tokio::time::sleep(after).await,
                    _ => return Err(error),
                },
                answer => return answer,
            }
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
        self.read_size.note(ids.len(), points.iter().map(weight).sum());
        Ok(points.into_iter().filter_map(document).map(|document| (document.id, document)).collect())
    }

    /// A page of points from `offset` on, inclusive, and the offset of the next page.
    async fn page(&self, offset: PointId, limit: usize) -> Result<(Vec<StoredDocument>, Option<PointId>), Error> {
        let request = ScrollPoints {
            collection_name: self.collection.clone(),
            offset: Some(offset),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(whole_payload()),
            with_vectors: Some(all_vectors()),
            ..ScrollPoints::default()
        };
        let page = self.server.call(self.server.client.scroll(request)).await?;
        self.read_size.note(page.result.len().max(1), page.result.iter().map(weight).sum());
        Ok((page.result.into_iter().filter_map(document).collect(), page.next_page_offset))
    }
}

#[async_trait]
impl Projection for QdrantStore {
    fn target(&self) -> Target {
        Target::Qdrant
    }

    async fn prepare(&self) -> Result<(), Fault> {
        let prepared = async {
            let collection = self.resolved().await?;
            schema::prepare(&self.server, &collection, &self.limits).await
        };
        prepared.await.map_err(|error: Error| error.into_fault("qdrant: collection"))
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let bounds = match self.paused() {
            Some(left) => Err(Error::RateLimit { message: "the server asked to wait".to_owned(), after: Some(left) }),
            None => self.bounds().await,
        };
        let bounds = match bounds {
            Ok(bounds) => bounds,
            Err(error) => {
                self.learn(&error).await;
                return vec![Applied::Failed(error.of_write(1)); writes.len()];
            }
        };
        let failed = OnceLock::new();
        let requests = bounds.requests(writes, self.bytes.most()).into_iter();
        let calls: Vec<_> = requests.map(|request| self.persist(request, &failed)).collect();
        let answers: Vec<_> = stream::iter(calls).buffered(STREAMS).collect().await;
        answers.concat()
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let mut found = HashMap::with_capacity(ids.len());
        let bounds = self.patiently(|| self.bounds()).await.map_err(|error| error.into_fault(READ))?;
        let mut rest = ids;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.read_size.points(bounds.page)));
            found.extend(self.patiently(|| self.points(now)).await.map_err(|error| error.into_fault(READ))?);
            rest = later;
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let mut page = DocumentPage::default();
        let bounds = self.patiently(|| self.bounds()).await.map_err(|error| error.into_fault(READ))?;
        // The page includes its offset. Points with a numeric id come before all others.
        let mut offset = point_id(after.unwrap_or_default());
        let wanted = limit.saturating_add(1).min(self.read_size.points(bounds.page));
        while page.documents.is_empty() && !page.is_last {
            let read = self.patiently(|| self.page(offset.clone(), wanted)).await;
            let (read, next) = read.map_err(|error| error.into_fault(READ))?;
            let above = read.into_iter().filter(|document| after.is_none_or(|after| document.id > after));
            page.documents.extend(above);
            page.is_last = next.is_none() && page.documents.len() <= limit;
            page.documents.truncate(limit);
            offset = next.unwrap_or(offset);
        }
        Ok(page)
    }

    fn expect(&self, state: &State) -> Document {
        Document::Vectors(VectorDocument::of(state, &self.limits))
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let count = async || {
            // A server that does not count exactly still knows the number of its points, but for those it replicates.
            let exact = Some(self.bounds().await?.counts_exactly);
            let request = CountPoints { collection_name: self.collection.clone(), exact, ..CountPoints::default() };
            self.server.call(self.server.client.count(request)).await
        };
        let answer = self.patiently(count).await.map_err(|error| error.into_fault(READ))?;
        let count = answer.result.unwrap_or_default();
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
