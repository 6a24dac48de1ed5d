//! The writes of rows in a merge transaction, and what the table made of them.
//!
//! An update sets only the columns that the merge changes: what a chunk cannot represent (an infinite time, a number of
//! any size in JSON) stays as it is in every other column. In `metadata` of the type jsonb it sets single keys.
//!
//! A trigger may alter or skip a write. If the table has triggers or rules, the rows are read back after the write, by a
//! statement of its own, so that what AFTER triggers did is seen as well. A write that affected no row is an error unless
//! the row is as wanted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chunk_sync_engine::ports::{Altered, Commit};
use chunk_sync_model::State;
use deadpool_postgres::Client;
use futures::future::{join_all, try_join};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_postgres::Statement;
use uuid::Uuid;

use super::cell::Cell;
use super::config::PostgresConfig;
use super::encode::encode;
use super::fault::Error;
use super::recorded_table;
use super::reserved::{self, Copies};
use super::row::{COLUMNS, Further, RowImage};
use super::row_update::{Update, patch};
use super::schema::Layout;
use super::sql;
use super::states::{HeldRow, read_states};
use super::transaction::execute;

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

    /// The rows that are written, for the message to capture.
    fn row_ids(&self) -> String {
        let inserts = self.inserts.iter().map(|row| row.id);
        let ids = inserts.chain(self.updates.iter().map(|update| update.row.id)).chain(self.deletes.iter().copied());
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
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
            let ids = self.row_ids();
            try_join(recorded_table::check(client, config), async {
                if ids.is_empty() { Ok(0) } else { execute(client, sql::OWN, &[&ids]).await }
            })
            .await?;
        }
        self.write_deletes(client, layout).await?;
        set_further(client, &self.further).await?;
        let mut skipped = self.write_inserts(client, layout).await?;
        skipped.extend(self.write_updates(client, layout).await?);
        if self.wanted.is_empty() {
            return Ok(Written { altered: Vec::new(), copies: self.copies });
        }
        // Asked after the writes, whose lock keeps triggers from being created.
        let triggers = client.prepare_cached(&layout.statements.triggers).await?;
        let triggers: bool = client.query_one(&triggers, &[]).await?.try_get(0)?;
        let altered = match triggers || !skipped.is_empty() {
            true => self.read_back(client, layout, config, &skipped).await?,
            false => Vec::new(),
        };
        Ok(Written { altered, copies: self.copies })
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

    async fn write_deletes(&self, client: &Client, layout: &Layout) -> Result<(), Error> {
        if self.deletes.is_empty() {
            return Ok(());
        }
        let deleted = execute(client, &layout.statements.delete, &[&self.deletes]).await?;
        if deleted == self.deletes.len() as u64 {
            return Ok(());
        }
        let left = client.query(&client.prepare_cached(&layout.statements.present).await?, &[&self.deletes]).await?;
        left.first().map_or(Ok(()), |row| Err(Error::Skipped(row.try_get(0)?, "delete")))
    }

    /// Returns the rows that were not inserted.
    async fn write_inserts(&mut self, client: &Client, layout: &Layout) -> Result<Vec<(Uuid, bool)>, Error> {
        let inserts = std::mem::take(&mut self.inserts);
        if inserts.is_empty() {
            return Ok(Vec::new());
        }
        let statement = client.prepare_cached(&layout.statements.insert).await?;
        let ids: Vec<Uuid> = inserts.iter().map(|row| row.id).collect();
        let cells = |row: RowImage| {
            let id = Cell::from(row.id);
            std::iter::once(id).chain(row.into_cells(layout.sparse_size)).collect()
        };
        let counts = send(client, &statement, inserts.into_iter().map(cells).collect()).await?;
        Ok(ids.into_iter().zip(counts).filter(|(_, count)| *count == 0).map(|(id, _)| (id, true)).collect())
    }

    /// Returns the rows that were not updated.
    async fn write_updates(&mut self, client: &Client, layout: &Layout) -> Result<Vec<(Uuid, bool)>, Error> {
        let mut by_columns: BTreeMap<(Vec<usize>, bool), Vec<Update>> = BTreeMap::new();
        for update in std::mem::take(&mut self.updates) {
            by_columns.entry((update.columns.clone(), update.patch.is_some())).or_default().push(update);
        }
        let mut skipped = Vec::new();
        for ((columns, is_patch), updates) in by_columns {
            let statement = client.prepare_cached(&layout.statements.update(&columns, is_patch)).await?;
            let ids: Vec<Uuid> = updates.iter().map(|update| update.row.id).collect();
            let cells = updates.into_iter().map(|update| update.into_cells(layout.sparse_size));
            let counts = send(client, &statement, cells.collect()).await?;
            skipped.extend(ids.into_iter().zip(counts).filter(|(_, count)| *count == 0).map(|(id, _)| (id, false)));
        }
        Ok(skipped)
    }
}

async fn send(client: &Client, statement: &Statement, rows: Vec<Vec<Cell>>) -> Result<Vec<u64>, Error> {
    let sent = rows.into_iter().map(|row| async move { client.execute_raw(statement, row).await });
    first_error(join_all(sent).await)
}

/// All answers, or the original error: errors of an aborted transaction only follow from it.
fn first_error<T>(answers: Vec<Result<T, tokio_postgres::Error>>) -> Result<Vec<T>, Error> {
    let mut error = None;
    let mut found = Vec::with_capacity(answers.len());
    for answer in answers {
        match answer.map_err(Error::from) {
            Ok(answer) => found.push(answer),
            Err(failed) if error.as_ref().is_none_or(Error::is_echo) => error = Some(failed),
            Err(_) => {}
        }
    }
    error.map_or(Ok(found), Err)
}

async fn set_further(client: &Client, further: &[(Uuid, Vec<Further>)]) -> Result<(), Error> {
    if further.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = further.iter().map(|(id, _)| *id).collect();
    execute(client, sql::DROP_FURTHER, &[&ids]).await?;
    let statement = client.prepare_cached(sql::ADD_FURTHER).await?;
    let rows = further.iter().flat_map(|(id, vectors)| vectors.iter().map(|vector| further_cells(*id, vector)));
    send(client, &statement, rows.collect()).await.map(drop)
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
