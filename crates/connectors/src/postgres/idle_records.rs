//! Records that no merge has written for long, see [`IdleRecords`].

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, IdlePage, IdleRecords};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::cell::Cell;
use super::records::PostgresRecords;
use super::transaction::limit_of;

const WALK: &str = "postgres: idle records";

/// The column has the server's clock; the bound comes from the clock of the service.
const IDLE: &str = "SELECT id, NOT swept AND merged_at < $2 FROM chunk_sync.records \
    WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $3";

const SWEPT: &str = "UPDATE chunk_sync.records SET swept = true WHERE id = ANY($1) AND merged_at < $2";

#[async_trait]
impl IdleRecords for PostgresRecords {
    async fn idle(&self, after: Option<Uuid>, before: Time, limit: usize) -> Result<IdlePage, Fault> {
        let page = async {
            let rows = self.query(IDLE, &[&after, &Cell::Time(before), &limit_of(limit)]).await?;
            let (mut ids, mut last) = (Vec::new(), None);
            for row in &rows {
                let id: Uuid = row.try_get(0)?;
                if row.try_get(1)? {
                    ids.push(id);
                }
                last = Some(id);
            }
            Ok(IdlePage { ids, last: last.filter(|_| rows.len() == limit) })
        };
        page.await.map_err(|error| self.fault(error, WALK))
    }

    async fn swept(&self, ids: &[Uuid], before: Time) -> Result<(), Fault> {
        let swept = self.query(SWEPT, &[&ids, &Cell::Time(before)]).await;
        swept.map(drop).map_err(|error| self.fault(error, WALK))
    }
}
