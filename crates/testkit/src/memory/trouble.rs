//! What happens to a system of record in the field: rows that are hidden, another table under the name, a restore.

use std::sync::{Arc, Mutex};

use chunk_sync_engine::ports::{Fault, FaultClass, Suspicion};
use chunk_sync_model::State;
use uuid::Uuid;

use super::MemoryRecords;
use super::tables::Tables;

impl MemoryRecords {
    /// Hides these rows from the service, as row level security would without `row_security = off`; all others show
    /// again.
    pub fn hide(&self, ids: impl IntoIterator<Item = Uuid>) {
        self.tables.lock().unwrap().hidden = ids.into_iter().collect();
    }

    /// From now on every deletion of a row is captured.
    pub fn capture_everything(&self) {
        self.with_notes(|notes, _| notes.captured = true);
    }

    /// Puts another table in place of the one on record.
    pub fn replace_table(&self, text: &str) {
        self.with_notes(|notes, _| notes.table = Some(Suspicion { text: text.to_owned() }));
    }

    /// Attaches a partition that is not on record and holds these rows.
    pub fn attach_partition(&self, rows: &[Arc<State>]) {
        for row in rows {
            self.write_row(row.chunk.id, Some(Arc::clone(row)));
        }
        self.with_notes(|notes, _| notes.partitions.push(notes.partitions.len() as u32));
    }

    /// The number of partitions on record.
    #[must_use]
    pub fn recorded_partitions(&self) -> usize {
        self.with_notes(|notes, _| notes.recorded_partitions.len())
    }

    /// From now on no merge begins, or merges begin again.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.tables.lock().unwrap().is_read_only = is_read_only;
    }

    /// A copy of everything as it is now: the database after a restore to this moment.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let tables = self.tables.lock().unwrap().clone();
        Self { tables: Arc::new(Mutex::new(tables)), ..self.clone() }
    }

    /// Goes back to a snapshot.
    pub fn restore(&self, snapshot: &Self) {
        let tables = snapshot.tables.lock().unwrap().clone();
        *self.tables.lock().unwrap() = tables;
    }

    /// Loses the record of a chunk and keeps its row, as after a restore of rows without their records; returns whether
    /// there was one.
    pub fn lose_record(&self, id: Uuid) -> bool {
        self.tables.lock().unwrap().records.remove(&id).is_some()
    }

    /// The row, also if the service cannot see it.
    #[must_use]
    pub fn stored_row(&self, id: Uuid) -> Option<Arc<State>> {
        self.tables.lock().unwrap().rows.get(&id).cloned()
    }

    /// Puts another table with these rows under the name: the table on record keeps its rows.
    pub fn swap_table(&self, which: impl Fn(Uuid) -> bool) {
        let mut tables = self.tables.lock().unwrap();
        let copied = tables.rows.iter().filter(|(id, _)| which(**id)).map(|(id, row)| (*id, Arc::clone(row))).collect();
        tables.renamed = Some(std::mem::replace(&mut tables.rows, copied));
        tables.notes.table = Some(Suspicion { text: "another table".into() });
    }

    /// Gives the table on record its name back; what was written into the other one is lost.
    pub fn swap_back(&self) {
        let mut tables = self.tables.lock().unwrap();
        if let Some(rows) = tables.renamed.take() {
            tables.rows = rows;
        }
        tables.notes.table = None;
    }

    /// Whether another table bears the name of the one on record.
    #[must_use]
    pub fn is_swapped(&self) -> bool {
        self.tables.lock().unwrap().renamed.is_some()
    }

    /// The ids of the table on record whose rows the table that bears its name lacks.
    #[must_use]
    pub fn missing_rows(&self) -> Vec<Uuid> {
        let tables = self.tables.lock().unwrap();
        let renamed = tables.renamed.iter().flat_map(|rows| rows.keys());
        renamed.filter(|id| !tables.rows.contains_key(*id)).copied().collect()
    }

    /// The same rows with a flaw: merges write into any table that bears the name.
    #[must_use]
    pub fn careless(self) -> Self {
        Self { careless: true, ..self }
    }
}

impl Tables {
    /// No row is written into another table than the one on record.
    pub(super) fn check_table(&self) -> Result<(), Fault> {
        match self.renamed {
            Some(_) => Err(Fault::new(FaultClass::Busy, "memory: merge", "another table bears the name")),
            None => Ok(()),
        }
    }

    pub(super) fn check_writes(&self) -> Result<(), Fault> {
        match self.is_read_only {
            true => Err(Fault::new(FaultClass::Unavailable, "memory: check", "the database is read-only")),
            false => Ok(()),
        }
    }

    /// Whether a row that the service cannot see is in the place of one that it would insert.
    pub(super) fn is_hidden(&self, id: Uuid) -> bool {
        self.hidden.contains(&id) && self.rows.contains_key(&id)
    }
}
