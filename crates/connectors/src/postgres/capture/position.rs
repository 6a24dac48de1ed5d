//! How far capture has come, and on which server: what tells a slot that went on where it was left from one that was
//! dropped, made anew, moved by hand, or left behind on a server that is not this one any more.
//!
//! # What a crash does
//! The position in the table is noted before it is confirmed to the server, so the slot is never ahead of it by our doing. A
//! gap is noted before the slot is made anew, and taken away when what it may have hidden is finished on the bus; a crash in
//! between finds it there, and carries all of it again.

use chunk_sync_engine::ports::{Gap, Position};

use super::literal;

/// What was noted of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) server: Server,
    /// The server may have been told to forget everything up to here.
    pub(super) position: Position,
    /// The name of a gap that is not closed yet.
    pub(super) gap: Option<String>,
}

/// Which server, and which of its histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) system: String,
    pub(super) timeline: i64,
}

/// The slot as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What was confirmed to the server.
    pub(super) confirmed: Position,
    /// It was invalidated.
    pub(super) lost: bool,
}

/// Why changes may have been missed; `None` where none can have been, or nobody captured here before.
pub(super) fn gap(noted: Option<&Noted>, server: &Server, slot: Option<&Slot>) -> Option<Gap> {
    let noted = noted?;
    let open = Gap::ALL.iter().copied().find(|gap| noted.gap.as_deref() == Some(gap.as_str()));
    let found = match slot {
        _ if noted.server.system != server.system => Some(Gap::OtherServer),
        None => Some(Gap::Dropped),
        Some(slot) if slot.lost => Some(Gap::Invalidated),
        Some(_) if noted.server.timeline != server.timeline => Some(Gap::Failover),
        Some(slot) if slot.confirmed > noted.position => Some(Gap::Moved),
        Some(_) => None,
    };
    found.or(open)
}

/// The timeline that is written now: the control file says it only from the next checkpoint on.
const TIMELINE: &str = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int";

/// Asks for server, slot and what was noted: one row of texts, the columns of [`read`].
pub(super) fn state(slot: &str, plugin: &str) -> String {
    let (slot, plugin) = (literal(slot), literal(plugin));
    format!(
        "SELECT concat_ws(' ', system_identifier, {TIMELINE}, coalesce(s.state, 'none'), \
         coalesce(s.confirmed_flush_lsn, '0/0'), coalesce(p.system, '-'), coalesce(p.timeline, 0), \
         coalesce(p.position, '0/0'), coalesce(p.gap, '-')) \
         FROM pg_control_system() \
         LEFT JOIN (SELECT confirmed_flush_lsn, CASE \
             WHEN database IS DISTINCT FROM current_database() OR plugin IS DISTINCT FROM {plugin} THEN 'foreign' \
             WHEN wal_status = 'lost' THEN 'lost' WHEN active THEN 'active' ELSE 'free' END AS state \
             FROM pg_replication_slots WHERE slot_name = {slot}) s ON true \
         LEFT JOIN chunk_sync.positions p ON p.slot = {slot}"
    )
}

/// Everything that capture has to know before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) server: Server,
    /// `none`, `free`, `active`, `lost` or `foreign`.
    pub(super) slot: String,
    pub(super) confirmed: Position,
    pub(super) noted: Option<Noted>,
}

impl State {
    /// Reads the answer to [`state`]; `None` where it is none.
    pub(super) fn read(answer: &str) -> Option<Self> {
        let mut words = answer.split(' ');
        let mut word = || words.next();
        let server = Server { system: word()?.to_owned(), timeline: word()?.parse().ok()? };
        let (slot, confirmed) = (word()?.to_owned(), position(word()?)?);
        let (system, timeline) = (word()?.to_owned(), word()?.parse().ok()?);
        let (position, gap) = (position(word()?)?, word()?.to_owned());
        let noted = (system != "-").then(|| Noted {
            server: Server { system, timeline },
            position,
            gap: Some(gap).filter(|gap| gap != "-"),
        });
        Some(Self { server, slot, confirmed, noted })
    }

    /// Why changes may have been missed.
    pub(super) fn gap(&self) -> Option<Gap> {
        let slot = Slot { confirmed: self.confirmed, lost: self.slot == "lost" };
        gap(self.noted.as_ref(), &self.server, Some(&slot).filter(|_| self.slot != "none"))
    }
}

/// A position as PostgreSQL writes it: two halves in hexadecimal.
pub(super) fn position(text: &str) -> Option<Position> {
    let (high, low) = text.split_once('/')?;
    Some(Position((u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?))
}

/// Notes a gap before anything is done about it.
pub(super) fn note_gap(slot: &str, gap: Gap) -> String {
    format!("UPDATE chunk_sync.positions SET gap = '{}' WHERE slot = {}", gap.as_str(), literal(slot))
}

/// Notes where the slot stands now, and on which server; which opening of it this is. Positions of one server say nothing
/// about those of another.
pub(super) fn note_slot(slot: &str) -> String {
    format!(
        "INSERT INTO chunk_sync.positions (slot, system, timeline, position, opening) \
         SELECT slot_name, system_identifier, {TIMELINE}, confirmed_flush_lsn, 1 \
         FROM pg_replication_slots, pg_control_system() WHERE slot_name = {} \
         ON CONFLICT (slot) DO UPDATE SET system = excluded.system, timeline = excluded.timeline, \
         position = CASE WHEN positions.system = excluded.system THEN greatest(excluded.position, positions.position) \
         ELSE excluded.position END, opening = positions.opening + 1, noted_at = now() \
         RETURNING opening",
        literal(slot)
    )
}

/// Notes up to where may be confirmed from now on.
pub(super) fn note(slot: &str, opening: &str, position: Position) -> String {
    update(slot, opening, &format!("position = greatest(position, '{position}')"))
}

/// Notes that nothing is missing any more.
pub(super) fn close_gap(slot: &str, opening: &str) -> String {
    update(slot, opening, "gap = NULL")
}

/// Changes nothing, and answers nothing, where the slot was opened again since.
fn update(slot: &str, opening: &str, set: &str) -> String {
    let (slot, opening) = (literal(slot), literal(opening));
    format!(
        "UPDATE chunk_sync.positions SET {set}, noted_at = now() WHERE slot = {slot} AND opening = {opening} \
         RETURNING opening"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn judged(answer: &str) -> Option<Gap> {
        State::read(answer).unwrap().gap()
    }

    #[test]
    fn a_slot_that_went_on_where_it_was_left_has_missed_nothing() {
        assert_eq!(judged("7 1 free 0/10 7 1 0/10 -"), None);
        assert_eq!(
            judged("7 1 active 0/F 7 1 0/10 -"),
            None,
            "what was confirmed last is not on the server's disk yet"
        );
        assert_eq!(judged("7 1 none 0/0 - 0 0/0 -"), None, "nobody captured before");
    }

    #[test]
    fn whatever_may_have_skipped_changes_is_a_gap() {
        for (answer, gap) in [
            ("7 1 none 0/0 7 1 0/10 -", Gap::Dropped),
            ("7 1 lost 0/10 7 1 0/10 -", Gap::Invalidated),
            ("7 1 free 1/0 7 1 0/FFFFFFFF -", Gap::Moved),
            ("8 1 free 0/10 7 1 0/10 -", Gap::OtherServer),
            ("8 1 none 0/0 7 1 0/10 -", Gap::OtherServer),
            ("7 2 free 0/10 7 1 0/10 -", Gap::Failover),
            ("7 1 free 0/10 7 1 0/10 dropped", Gap::Dropped),
        ] {
            assert_eq!(judged(answer), Some(gap), "{answer}");
        }
    }
}
