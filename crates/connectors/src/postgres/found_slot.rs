//! The replication slot as the catalogue shows it, for capture and for `doctor`.

use chunk_sync_engine::ports::Position;
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::fault::Error;

/// The slot of this name, as [`FoundSlot::of`] reads it.
pub(super) const SLOT: &str = "SELECT active, wal_status, coalesce(database::text, '') AS database,
    coalesce(plugin::text, '') AS plugin, database IS NOT DISTINCT FROM current_database() AS is_of_database,
    coalesce(confirmed_flush_lsn, '0/0') AS confirmed,
    coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        confirmed_flush_lsn), 0)::bigint AS behind, coalesce((to_jsonb(slots) ->> 'synced')::boolean, false) AS synced
    FROM pg_replication_slots slots WHERE slot_name = $1::text";

/// The remedy if the slot belongs to another database or plugin.
pub(super) const RENAME_SLOT: &str = "set postgres.slot to another name";

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundSlot {
    pub(super) database: String,
    pub(super) plugin: String,
    /// Whether it belongs to the database of this session.
    pub(super) is_of_database: bool,
    pub(super) is_active: bool,
    pub(super) wal: WalStatus,
    /// The position confirmed to the server.
    pub(super) confirmed: Position,
    /// The bytes of log after that position.
    pub(super) behind: i64,
    /// Whether the server, as a standby, kept it in step with the slot of its primary (17 and later).
    pub(super) is_synced: bool,
}

/// Whether the server keeps the log that a slot needs: `wal_status` of `pg_replication_slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalStatus {
    /// `reserved`, `extended`, or NULL for a slot that needs no log yet.
    Kept,
    /// The next checkpoint may remove it.
    Unreserved,
    /// It was removed, or the slot was invalidated for another reason.
    Lost,
}

/// What a slot permits this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    /// It belongs to another database or plugin.
    Foreign,
    /// It can no longer be read.
    Lost,
    /// Another connection reads it.
    Active,
    Free,
}

impl WalStatus {
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("lost") => Self::Lost,
            Some("unreserved") => Self::Unreserved,
            _ => Self::Kept,
        }
    }
}

impl FoundSlot {
    /// To whom the slot `name` belongs, as a sentence.
    pub(super) fn owner(&self, name: &str) -> String {
        format!("the slot {name} belongs to database `{}` and plugin `{}`", self.database, self.plugin)
    }

    /// Reads a row of [`SLOT`]; `None` if an outer join found no slot.
    pub(super) fn of(row: &Row) -> Result<Option<Self>, Error> {
        let Some(is_active) = row.try_get("active")? else { return Ok(None) };
        Ok(Some(Self {
            database: row.try_get("database")?,
            plugin: row.try_get("plugin")?,
            is_of_database: row.try_get("is_of_database")?,
            is_active,
            wal: WalStatus::of(row.try_get("wal_status")?),
            confirmed: Position(row.try_get::<_, PgLsn>("confirmed")?.into()),
            behind: row.try_get("behind")?,
            is_synced: row.try_get("synced")?,
        }))
    }

    /// What it permits a service with this output plugin.
    pub(super) fn state(&self, plugin: &str) -> SlotState {
        if !self.is_of_database || self.plugin != plugin {
            SlotState::Foreign
        } else if self.wal == WalStatus::Lost {
            SlotState::Lost
        } else if self.is_active {
            SlotState::Active
        } else {
            SlotState::Free
        }
    }
}

#[cfg(test)]
impl FoundSlot {
    /// A free slot of this database and `pgoutput`, confirmed up to there.
    pub(super) fn unread(confirmed: u64) -> Self {
        Self {
            database: "claude_context".into(),
            plugin: "pgoutput".into(),
            is_of_database: true,
            is_active: false,
            wal: WalStatus::Kept,
            confirmed: Position(confirmed),
            behind: 0,
            is_synced: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_another_database_or_plugin_is_foreign_whatever_else_holds() {
        assert_eq!(FoundSlot::unread(16).state("wal2json"), SlotState::Foreign);
        let elsewhere =
            FoundSlot { is_of_database: false, is_active: true, wal: WalStatus::Lost, ..FoundSlot::unread(16) };
        assert_eq!(elsewhere.state("pgoutput"), SlotState::Foreign);
    }

    #[test]
    fn a_lost_slot_is_lost_even_while_a_connection_still_reads_it() {
        for (name, is_active, state) in [
            (Some("lost"), true, SlotState::Lost),
            (Some("unreserved"), true, SlotState::Active),
            (Some("extended"), false, SlotState::Free),
            (None, false, SlotState::Free),
        ] {
            let slot = FoundSlot { wal: WalStatus::of(name), is_active, ..FoundSlot::unread(16) };
            assert_eq!(slot.state("pgoutput"), state, "{name:?}");
        }
    }
}
