//! What this process has, and on which pages of its register in the server that stands.

use std::collections::HashMap;

use chunk_sync_engine::ports::EntryId;

/// A page of the register: entries that were registered at once.
pub(super) type Page = u64;

/// What the engine has, and how many unfinished entries each page still has.
#[derive(Default)]
pub(super) struct Ledger {
    /// What was handed out and is not finished; without a page where the entry is about no chunk.
    handed_out: HashMap<EntryId, Option<Page>>,
    pages: HashMap<Page, usize>,
    last_page: Page,
    /// Pages of which everything is finished; they can go from the server.
    emptied: Vec<Page>,
}

impl Ledger {
    /// Opens a page for so many entries.
    pub(super) fn open_page(&mut self, entries: usize) -> Page {
        self.last_page += 1;
        self.pages.insert(self.last_page, entries);
        self.last_page
    }

    /// The engine has it from now on.
    pub(super) fn hand_out(&mut self, id: EntryId, page: Option<Page>) {
        self.handed_out.insert(id, page);
    }

    pub(super) fn is_handed_out(&self, id: EntryId) -> bool {
        self.handed_out.contains_key(&id)
    }

    /// These are finished.
    pub(super) fn finish(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(page) = self.handed_out.remove(id).flatten() {
                self.strike(page);
            }
        }
    }

    /// One entry less on a page, finished or another's.
    pub(super) fn strike(&mut self, page: Page) {
        let Some(left) = self.pages.get_mut(&page) else { return };
        *left -= 1;
        if *left == 0 {
            self.pages.remove(&page);
            self.emptied.push(page);
        }
    }

    /// The pages that can go.
    pub(super) fn take_emptied(&mut self) -> Vec<Page> {
        std::mem::take(&mut self.emptied)
    }

    /// They could not be removed yet.
    pub(super) fn keep_emptied(&mut self, pages: Vec<Page>) {
        self.emptied.extend(pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> EntryId {
        EntryId { millis: 1, sequence }
    }

    #[test]
    fn a_page_goes_when_its_last_entry_is_finished_or_struck_out() {
        let mut ledger = Ledger::default();
        let page = ledger.open_page(3);
        for sequence in 0..2 {
            ledger.hand_out(id(sequence), Some(page));
        }
        ledger.hand_out(id(9), None);
        ledger.finish(&[id(0), id(9), id(7)]);
        ledger.finish(&[id(0)]);
        ledger.strike(page);
        assert!(ledger.take_emptied().is_empty());
        assert!(ledger.is_handed_out(id(1)));
        ledger.finish(&[id(1)]);
        assert_eq!(ledger.take_emptied(), [page]);
        assert!(ledger.take_emptied().is_empty());
        assert_ne!(ledger.open_page(1), page);
    }
}
