//! Walking all stores side by side, in ascending order of id.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::Place;
use crate::ports::{Fault, Records, Row, Seen, Store};
use crate::service::Ports;

/// The stores, each with the page it stands on.
pub(super) struct Walk {
    page: usize,
    records: Arc<dyn Records>,
    rows: Pages<Row>,
    stores: Vec<(Arc<dyn Store>, Pages<Seen>)>,
}

impl Walk {
    pub(super) fn new(ports: &Ports, page: usize) -> Self {
        let stores = ports.stores.iter().map(|store| (Arc::clone(store), Pages::default())).collect();
        Self { page: page.max(1), records: Arc::clone(&ports.records), rows: Pages::default(), stores }
    }

    /// The next id that stands anywhere, with what each store has under it; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Place>, Fault> {
        if let Some(after) = self.rows.wants() {
            let page = self.records.rows(after, self.page).await?;
            self.rows.turn(page, self.page, |row| row.id);
        }
        for (store, pages) in &mut self.stores {
            if let Some(after) = pages.wants() {
                let page = store.scan(after, self.page).await?;
                pages.turn(page, self.page, |seen| seen.id);
            }
        }
        let heads = self.stores.iter().filter_map(|(_, pages)| pages.head(|seen| seen.id));
        let Some(id) = heads.chain(self.rows.head(|row| row.id)).min() else {
            return Ok(None);
        };
        let row = self.rows.take(id, |row| row.id);
        let seen = self.stores.iter_mut().map(|(_, pages)| pages.take(id, |seen| seen.id)).collect();
        Ok(Some(Place { id, row, seen }))
    }
}

/// One page of a store, and where the next begins.
struct Pages<T> {
    items: VecDeque<T>,
    last: Option<Uuid>,
    ended: bool,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), last: None, ended: false }
    }
}

impl<T> Pages<T> {
    /// The id after which the next page begins, if one is wanted now.
    #[allow(clippy::option_option, reason = "none wanted, from the beginning, after an id")]
    fn wants(&self) -> Option<Option<Uuid>> {
        (self.items.is_empty() && !self.ended).then_some(self.last)
    }

    fn turn(&mut self, page: Vec<T>, wanted: usize, id: impl Fn(&T) -> Uuid) {
        self.ended = page.len() < wanted;
        self.last = page.last().map(id).or(self.last);
        self.items = page.into();
    }

    fn head(&self, id: impl Fn(&T) -> Uuid) -> Option<Uuid> {
        self.items.front().map(id)
    }

    fn take(&mut self, wanted: Uuid, id: impl Fn(&T) -> Uuid) -> Option<T> {
        self.items.pop_front_if(|item| id(item) == wanted)
    }
}
