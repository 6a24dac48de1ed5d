//! The position of capture and the server that it belongs to. They distinguish a slot that continued where capture
//! stopped from one that was dropped, re-created, advanced by hand, or left behind on another server.
//!
//! # What a crash does
//! The position is written to the table before it is confirmed to the server, so the service never moves the slot ahead
//! of it. A gap is recorded before the slot is re-created, and cleared when the changes that it may have hidden are
//! finished on the bus. After a crash in between, the gap is still recorded, and all of those changes are synced again.

use std::sync::LazyLock;

use chunk_sync_engine::ports::{Gap, Position};
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::Plugin;
use super::published::Signature;
use crate::postgres::fault::Error;
use crate::postgres::found_slot::{FoundSlot, SLOT, SlotState, WalStatus};

/// The recorded state of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) server: Server,
    /// The slot may have been confirmed up to here; the server may have discarded the log before it.
    pub(super) position: Position,
    /// The gap that is not closed yet.
    pub(super) gap: Option<Gap>,
}

/// A server by its system identifier, and its timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) system: String,
    pub(super) timeline: i64,
}

/// The current timeline. Not from the control file, which shows a new one only after the next checkpoint.
const TIMELINE: &str = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint";

/// Server, slot `$1`, recorded position and recorded signature of the publication, as [`State::of`] reads them.
pub(super) static STATE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT here.system_identifier::text AS system, {TIMELINE} AS timeline, found.*, noted.system AS noted_system,
            noted.timeline AS noted_timeline, noted.position AS noted_position, noted.gap, noted.published
        FROM pg_control_system() here LEFT JOIN ({SLOT}) found ON true
        LEFT JOIN chunk_sync.positions noted ON noted.slot = $1::text"
    )
});

/// The state that capture needs before it opens the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) server: Server,
    /// The slot, if it exists.
    pub(super) slot: Option<FoundSlot>,
    pub(super) noted: Option<Noted>,
    /// The signature of the publication when the log was last opened.
    pub(super) published: Option<Signature>,
}

impl State {
    /// Reads the row of [`STATE`].
    pub(super) fn of(row: &Row) -> Result<Self, Error> {
        let server = Server { system: row.try_get("system")?, timeline: row.try_get("timeline")? };
        let published = row.try_get::<_, Option<String>>("published")?.map(Signature);
        Ok(Self { server, slot: FoundSlot::of(row)?, noted: noted(row)?, published })
    }

    /// What the slot permits; `None` if it does not exist.
    pub(super) fn slot_state(&self, plugin: Plugin) -> Option<SlotState> {
        self.slot.as_ref().map(|found| found.state(plugin.as_str()))
    }

    /// Why capture may have missed changes; `None` when it cannot have missed any, or when nothing was captured before.
    pub(super) fn gap(&self) -> Option<Gap> {
        let noted = self.noted.as_ref()?;
        let found = match &self.slot {
            _ if noted.server.system != self.server.system => Some(Gap::OtherServer),
            None => Some(Gap::Dropped),
            Some(slot) if slot.wal == WalStatus::Lost => Some(Gap::Invalidated),
            // What the primary had confirmed is in the log of the standby before its slot moves there.
            Some(slot) if noted.server.timeline != self.server.timeline && !slot.is_synced => Some(Gap::Failover),
            Some(slot) if slot.confirmed > noted.position => Some(Gap::Moved),
            Some(_) => None,
        };
        found.or(noted.gap)
    }
}

/// The recorded state, if there is one.
fn noted(row: &Row) -> Result<Option<Noted>, Error> {
    let Some(system) = row.try_get("noted_system")? else { return Ok(None) };
    let gap: Option<&str> = row.try_get("gap")?;
    Ok(Some(Noted {
        server: Server { system, timeline: row.try_get("noted_timeline")? },
        position: Position(row.try_get::<_, PgLsn>("noted_position")?.into()),
        gap: Gap::ALL.into_iter().find(|known| gap == Some(known.as_str())),
    }))
}

/// Parses a `pg_lsn`: two halves in hexadecimal, separated by a slash.
pub(super) fn position(text: &str) -> Option<Position> {
    let (high, low) = text.split_once('/')?;
    Some(Position((u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?))
}

/// Records the gap `$2`, before anything else happens.
pub(super) const NOTE_GAP: &str = "UPDATE chunk_sync.positions SET gap = $2 WHERE slot = $1";

/// Records the position of the slot, its server and the signature `$2` of the publication, and returns the number of
/// this opening. A position of another server is replaced, because positions of two servers are not comparable.
pub(super) static NOTE_SLOT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO chunk_sync.positions (slot, system, timeline, position, opening, published)
        SELECT slot_name, system_identifier, {TIMELINE}, confirmed_flush_lsn, 1, $2::text
        FROM pg_replication_slots, pg_control_system() WHERE slot_name = $1::text
        ON CONFLICT (slot) DO UPDATE SET system = excluded.system, timeline = excluded.timeline,
        position = CASE WHEN positions.system = excluded.system THEN greatest(excluded.position, positions.position)
        ELSE excluded.position END, opening = positions.opening + 1, noted_at = now(),
        published = excluded.published RETURNING opening"
    )
});

/// Records the position `$3` up to which the slot may be confirmed from now on. Returns no row when the slot was opened
/// again since the opening `$2`.
pub(super) const NOTE: &str = "UPDATE chunk_sync.positions SET position = greatest(position, $3), noted_at = now()
    WHERE slot = $1 AND opening = $2 RETURNING opening";

/// Clears the recorded gap. Returns no row when the slot was opened again since the opening `$2`.
pub(super) const CLOSE_GAP: &str = "UPDATE chunk_sync.positions SET gap = NULL, noted_at = now()
    WHERE slot = $1 AND opening = $2 RETURNING opening";

/// Records the signature `$2` of the publication after the service altered it.
pub(super) const NOTE_PUBLISHED: &str = "UPDATE chunk_sync.positions SET published = $2 WHERE slot = $1";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(system: &str, timeline: i64) -> Server {
        Server { system: system.into(), timeline }
    }

    /// Capture stopped at position 16 of timeline 1 of server 7, and the slot is there.
    fn state() -> State {
        let noted = Noted { server: server("7", 1), position: Position(16), gap: None };
        State { server: server("7", 1), slot: Some(FoundSlot::unread(16)), noted: Some(noted), published: None }
    }

    #[test]
    fn a_slot_that_continued_where_capture_stopped_has_no_gap() {
        assert_eq!(state().gap(), None);
        let unwritten = State { slot: Some(FoundSlot::unread(15)), ..state() };
        assert_eq!(unwritten.gap(), None, "the server had not written the last confirmation to disk");
        let first = State { slot: None, noted: None, ..state() };
        assert_eq!(first.gap(), None, "nothing was captured before");
        let kept = FoundSlot { is_synced: true, ..FoundSlot::unread(15) };
        let promoted = State { server: server("7", 2), slot: Some(kept), ..state() };
        assert_eq!(promoted.gap(), None, "a standby that kept the slot was promoted");
    }

    #[test]
    fn a_slot_that_may_have_skipped_changes_has_a_gap() {
        let lost = FoundSlot { wal: WalStatus::Lost, ..FoundSlot::unread(16) };
        let ahead = FoundSlot { is_synced: true, ..FoundSlot::unread(17) };
        let open = Noted { server: server("7", 1), position: Position(16), gap: Some(Gap::Dropped) };
        for (state, gap) in [
            (State { slot: None, ..state() }, Gap::Dropped),
            (State { slot: Some(lost), ..state() }, Gap::Invalidated),
            (State { slot: Some(FoundSlot::unread(17)), ..state() }, Gap::Moved),
            (State { server: server("8", 1), ..state() }, Gap::OtherServer),
            (State { server: server("8", 1), slot: None, ..state() }, Gap::OtherServer),
            (State { server: server("7", 2), ..state() }, Gap::Failover),
            (State { server: server("7", 2), slot: Some(ahead), ..state() }, Gap::Moved),
            (State { noted: Some(open), ..state() }, Gap::Dropped),
        ] {
            assert_eq!(state.gap(), Some(gap), "{state:?}");
        }
    }

    #[test]
    fn a_position_has_two_halves_in_hexadecimal() {
        assert_eq!(position("1/18"), Some(Position((1 << 32) | 0x18)));
        assert_eq!(position("118"), None);
    }
}
