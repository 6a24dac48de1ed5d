//! The writes of rows in a merge transaction, and what the table made of them.
//!
//! An update sets only the columns that the merge changes: what a chunk cannot represent (an infinite time, a number of
//! any size in JSON) stays as it is in every other column. In `metadata` of the type jsonb it sets single keys.
//!
//! A trigger may alter or skip a write. If the table has triggers or rules, the rows are read back after the write, by a
//! statement of its own, so that what AFTER triggers did is seen as well. A write that affected no row is an error unless
//! the row is as wanted.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use chunk_sync_engine::ports::{Altered, Commit};
use chunk_sync_model::State;
use deadpool_postgres::Client;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::cell::Cell;
use super::config::PostgresConfig;
use super::encode::encode;
use super::fault::Error;
use super::flight::{Answers, Failed, Flight};
use super::recorded_table;
use super::reserved::{self, Copies};
use super::row::{COLUMNS, Further, RowImage};
use super::row_update::{Update, patch};
use super::schema::Layout;
use super::sql;
use super::states::{HeldRow, read_states};

/// The writes of rows, and the states that they are to show.
#[derive(Default)]
pub(super) struct RowWrites {
    inserts: Vec<RowImage>,
    updates: Vec<Update>,
    deletes: Vec<Uuid>,
    /// Chunks whose vectors in `chunk_sync.embeddings` change, with the new vectors.
    further: Vec<(Uuid, Vec<Further>)>,
    /// What the written rows are to show.
    wanted: HashMap<Uuid, Arc<State>>,
    /// What is written under the reserved key.
    copies: Copies,
}

/// What the table made of the writes.
pub(super) struct Written {
    /// The rows that are stored in another form than the commits have.
    pub(super) altered: Vec<Altered>,
    pub(super) copies: Copies,
}

impl RowWrites {
    pub(super) fn of(
        commits: &[Commit],
        rows: &HashMap<Uuid, HeldRow>,
        layout: &Layout,
        config: &PostgresConfig,
    ) -> Self {
        let mut writes = Self::default();
        let image = |state: &State| encode(state, &layout.room, &config.limits);
        for commit in commits {
            let held = rows.get(&commit.id);
            // A row without times is written back with those that this merge gave it. Otherwise every read would give
            // it other times, and the row would look as if another program had changed it.
            let repair = |held: &HeldRow| held.is_incomplete() || held.lost_rest;
            if !commit.row_changed && !held.is_some_and(repair) {
                continue;
            }
            let Some(state) = &commit.state else {
                writes.delete(commit.id, held);
                continue;
            };
            writes.wanted.insert(commit.id, Arc::clone(state));
            let mut row = image(state);
            writes.copies.extend(reserved::of(&row).map(|copy| (row.id, copy)));
            let wanted = std::mem::take(&mut row.further);
            if wanted != held.map_or(&[][..], |held| &held.further) {
                writes.further.push((commit.id, wanted));
            }
            match held {
                None => writes.inserts.push(row),
                Some(held) => writes.update(row, image(&held.state), held, layout.metadata_by_key),
            }
        }
        writes
    }

    fn delete(&mut self, id: Uuid, held: Option<&HeldRow>) {
        self.deletes.push(id);
        if held.is_some_and(|held| !held.further.is_empty()) {
            self.further.push((id, Vec::new()));
        }
    }

    /// `before` is the row as the service would have written it: equal columns keep what they hold.
    fn update(&mut self, row: RowImage, before: RowImage, held: &HeldRow, by_key: bool) {
        let mut patch = by_key.then(|| patch(&before, &row, held));
        if patch.as_ref().is_some_and(|(removed, set)| removed.is_empty() && set == &Value::Object(Map::new())) {
            patch = None;
        }
        let (old, new) = (before.into_cells(0), row.clone().into_cells(0));
        let differs = |place: usize| match COLUMNS[place].name {
            "metadata" if by_key => patch.is_some(),
            "metadata" if held.lacks_rest => true,
            name => old[place] != new[place] || held.defaults.contains(&name),
        };
        let columns: Vec<usize> = (0..COLUMNS.len()).filter(|place| differs(*place)).collect();
        if !columns.is_empty() {
            self.updates.push(Update { row, columns, patch });
        }
    }

    fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.inserts.is_empty() && self.updates.is_empty() && self.further.is_empty()
    }

    /// Writes, and returns what the table made of it. The rows were locked before, and with them the table.
    pub(super) async fn write(
        mut self,
        client: &Client,
        layout: &Layout,
        config: &PostgresConfig,
    ) -> Result<Written, Error> {
        if !self.is_empty() {
            recorded_table::check(client, config).await?;
        }
        let deletes = std::mem::take(&mut self.deletes);
        let mut flight = Flight::default();
        let places = self.add_rows(&mut flight, &layout.statements.insert_if_absent, &deletes, layout);
        // Asked after the writes, whose lock keeps triggers from being created.
        let triggers = flight.add(layout.statements.triggers.clone(), Vec::new());
        let answers = flight.fly(client).await.map_err(|failed| failed.error)?;
        let was_deleted = |place| answers.affected(place) == deletes.len() as u64;
        if !places.deletes.is_none_or(was_deleted) {
            let left = client.query(&client.prepare_cached(&layout.statements.present).await?, &[&deletes]).await?;
            left.first().map_or(Ok(()), |row| Err(Error::Skipped(row.try_get(0)?, "delete")))?;
        }
        let triggers: bool = answers.rows(triggers).first().map_or(Ok(true), |row| row.try_get(0))?;
        layout.note_stored_as_written(!triggers);
        let skipped = places.skipped(&answers);
        let altered = match (triggers || !skipped.is_empty()) && !self.wanted.is_empty() {
            true => self.read_back(client, layout, config, &skipped).await?,
            false => Vec::new(),
        };
        Ok(Written { altered, copies: self.copies })
    }

    /// Adds the writes for a table that stores rows as they are written, with a statement that verifies that it does, and
    /// returns what is written under the reserved key.
    pub(super) fn add(mut self, flight: &mut Flight, layout: &Layout) -> (Copies, Unverified) {
        if self.is_empty() {
            return (self.copies, Unverified::default());
        }
        let deletes = std::mem::take(&mut self.deletes);
        let places = self.add_rows(flight, &layout.statements.insert, &deletes, layout);
        let verifies = flight.add(layout.statements.as_written.clone(), Vec::new());
        (self.copies, Unverified { inserts: places.inserts, verifies: Some(verifies) })
    }

    async fn read_back(
        &mut self,
        client: &Client,
        layout: &Layout,
        config: &PostgresConfig,
        skipped: &[(Uuid, bool)],
    ) -> Result<Vec<Altered>, Error> {
        let ids: Vec<Uuid> = self.wanted.keys().copied().collect();
        let (now, rows) = (Timestamp::now().into(), &layout.statements.rows);
        let rows = read_states(client, rows, config, &ids, now, Some(&self.copies)).await?;
        for (id, copy) in &mut self.copies {
            copy.stripped = rows.get(id).is_some_and(|row| row.lacks_rest);
        }
        for (id, is_insert) in skipped {
            match rows.get(id) {
                // Another program inserted it.
                Some(_) if *is_insert => return Err(Error::Overtaken),
                Some(row) if Some(&row.state) == self.wanted.get(id) => {}
                _ => return Err(Error::Skipped(*id, "write")),
            }
        }
        let altered = |(id, wanted): (&Uuid, &Arc<State>)| match rows.get(id) {
            Some(row) if row.state == *wanted => None,
            Some(row) => Some(Ok(Altered { id: *id, state: Arc::clone(&row.state) })),
            None => Some(Err(Error::Skipped(*id, "write"))),
        };
        self.wanted.iter().filter_map(altered).collect()
    }

    /// Adds the writes, preceded by the message to capture.
    fn add_rows(&mut self, flight: &mut Flight, insert: &str, deletes: &[Uuid], layout: &Layout) -> Places {
        let mut places = Places::default();
        let (inserts, updates) = (std::mem::take(&mut self.inserts), std::mem::take(&mut self.updates));
        let written = inserts.iter().map(|row| row.id).chain(updates.iter().map(|update| update.row.id));
        let ids = written.chain(deletes.iter().copied()).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        if !ids.is_empty() {
            flight.add(sql::OWN, vec![Box::new(ids)]);
        }
        if !deletes.is_empty() {
            places.deletes = Some(flight.add(layout.statements.delete.clone(), vec![Box::new(deletes.to_vec())]));
        }
        add_further(flight, &self.further);
        if !inserts.is_empty() {
            places.ids.extend(inserts.iter().map(|row| row.id));
            let cells = |row: RowImage| {
                let id = Cell::from(row.id);
                std::iter::once(id).chain(row.into_cells(layout.sparse_size)).collect()
            };
            places.inserts = flight.add_rows(insert.to_owned(), inserts.into_iter().map(cells).collect());
        }
        let mut by_columns: BTreeMap<(Vec<usize>, bool), Vec<Update>> = BTreeMap::new();
        for update in updates {
            by_columns.entry((update.columns.clone(), update.patch.is_some())).or_default().push(update);
        }
        for ((columns, is_patch), updates) in by_columns {
            let ids: Vec<Uuid> = updates.iter().map(|update| update.row.id).collect();
            let cells = updates.into_iter().map(|update| update.into_cells(layout.sparse_size)).collect();
            let sent = flight.add_rows(layout.statements.update(&columns, is_patch), cells);
            places.updates.extend(ids.into_iter().zip(sent));
        }
        places
    }
}

/// The places of the row writes in a flight.
#[derive(Default)]
struct Places {
    deletes: Option<usize>,
    inserts: Range<usize>,
    /// The rows of the inserts.
    ids: Vec<Uuid>,
    updates: Vec<(Uuid, usize)>,
}

impl Places {
    /// The rows that were not written, and whether each is an insert.
    fn skipped(&self, answers: &Answers) -> Vec<(Uuid, bool)> {
        let inserts = self.ids.iter().copied().zip(self.inserts.clone()).map(|(id, place)| (id, place, true));
        let updates = self.updates.iter().map(|(id, place)| (*id, *place, false));
        let skipped = inserts.chain(updates).filter(|(_, place, _)| answers.affected(*place) == 0);
        skipped.map(|(id, _, is_insert)| (id, is_insert)).collect()
    }
}

/// What a flight relies on that only its answers verify: that no other program inserted the rows meanwhile, and that the
/// table stores rows as they are written.
#[derive(Default)]
pub(super) struct Unverified {
    inserts: Range<usize>,
    verifies: Option<usize>,
}

impl Unverified {
    /// Whether the flight failed because of it. Nothing is written then.
    pub(super) fn is_refuted(&self, failed: &Failed, layout: &Layout) -> bool {
        let Failed { place: Some(place), error } = failed else { return false };
        let constraint = || error.constraint().and_then(|name| layout.constraints.get(name));
        match error.code() {
            Some(&SqlState::DIVISION_BY_ZERO) => self.verifies == Some(*place),
            // The indices of partitions are not in the layout.
            Some(&SqlState::UNIQUE_VIOLATION) => {
                self.inserts.contains(place) && constraint().is_none_or(|column| column == "id")
            }
            _ => false,
        }
    }
}

fn add_further(flight: &mut Flight, further: &[(Uuid, Vec<Further>)]) {
    if further.is_empty() {
        return;
    }
    let ids: Vec<Uuid> = further.iter().map(|(id, _)| *id).collect();
    flight.add(sql::DROP_FURTHER, vec![Box::new(ids)]);
    let rows = further.iter().flat_map(|(id, vectors)| vectors.iter().map(|vector| further_cells(*id, vector)));
    flight.add_rows(sql::ADD_FURTHER, rows.collect());
}

fn further_cells(id: Uuid, further: &Further) -> Vec<Cell> {
    let dense = &further.dense;
    vec![
        id.into(),
        dense.model.clone().into(),
        further.alternative.into(),
        dense.vector.clone().into(),
        dense.timestamp.into(),
    ]
}
