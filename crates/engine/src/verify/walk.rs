//! Reads all stores side by side, in ascending order of id.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::compare::ChunkView;
use crate::ports::Ports;
use crate::ports::{Fault, FaultClass, Projection, Records, Row, StoredDocument};

/// The stores, each with its current page and the next one being read: reading one store takes as long as reading all
/// of them.
pub(super) struct Walk {
    page: usize,
    records: Arc<dyn Records>,
    rows: Pages<Row>,
    stores: Vec<(Arc<dyn Projection>, Pages<StoredDocument>)>,
}

impl Walk {
    /// Starts at the first id above `after`.
    pub(super) fn new(ports: &Ports, page: usize, after: Option<Uuid>) -> Self {
        let stores = ports.stores.iter().map(|store| (Arc::clone(store), Pages::after(after))).collect();
        Self { page: page.max(1), records: Arc::clone(&ports.records), rows: Pages::after(after), stores }
    }

    /// The next id that any store has, with what each store holds under it; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<ChunkView>, Fault> {
        self.order();
        self.rows.arrive(|row| row.id).await?;
        for (_, pages) in &mut self.stores {
            pages.arrive(|seen| seen.id).await?;
        }
        self.order();
        let heads = self.stores.iter().filter_map(|(_, pages)| pages.head(|seen| seen.id));
        let Some(id) = heads.chain(self.rows.head(|row| row.id)).min() else {
            return Ok(None);
        };
        let row = self.rows.take(id, |row| row.id);
        let seen = self.stores.iter_mut().map(|(_, pages)| pages.take(id, |seen| seen.id)).collect();
        Ok(Some(ChunkView { id, row, seen }))
    }

    /// Starts to read the next page of every store that is not being read.
    fn order(&mut self) {
        let page = self.page;
        let records = &self.records;
        self.rows.order(|after| {
            let records = Arc::clone(records);
            async move { records.rows(after, page).await.map(|read| (read.rows, read.is_last)) }
        });
        for (store, pages) in &mut self.stores {
            pages.order(|after| {
                let store = Arc::clone(store);
                async move {
                    let read = store.scan(after, page).await?;
                    Ok((read.documents, read.is_last))
                }
            });
        }
    }
}

/// One page of a store, the next page being read, and the id after which that one begins.
struct Pages<T> {
    items: VecDeque<T>,
    /// With whether it is the last one. Aborted when the walk is dropped.
    coming: JoinSet<Result<(Vec<T>, bool), Fault>>,
    last: Option<Uuid>,
    ended: bool,
}

impl<T: Send + 'static> Pages<T> {
    fn after(last: Option<Uuid>) -> Self {
        Self { items: VecDeque::new(), coming: JoinSet::new(), last, ended: false }
    }

    /// Starts to read the page after the last known id, unless one is being read or none is left.
    fn order<F>(&mut self, read: impl FnOnce(Option<Uuid>) -> F)
    where
        F: Future<Output = Result<(Vec<T>, bool), Fault>> + Send + 'static,
    {
        if !self.ended && self.coming.is_empty() {
            self.coming.spawn(read(self.last));
        }
    }

    /// Waits for the page that is being read, if the current page is used up.
    async fn arrive(&mut self, id: impl Fn(&T) -> Uuid) -> Result<(), Fault> {
        if !self.items.is_empty() {
            return Ok(());
        }
        if let Some(page) = self.coming.join_next().await {
            let (page, is_last) = page.unwrap_or_else(|end| match end.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(end) => Err(Fault::new(FaultClass::Unavailable, "verify", end)),
            })?;
            self.ended = is_last;
            self.last = page.last().map(id).or(self.last);
            self.items = page.into();
        }
        Ok(())
    }

    fn head(&self, id: impl Fn(&T) -> Uuid) -> Option<Uuid> {
        self.items.front().map(id)
    }

    fn take(&mut self, wanted: Uuid, id: impl Fn(&T) -> Uuid) -> Option<T> {
        self.items.pop_front_if(|item| id(item) == wanted)
    }
}
