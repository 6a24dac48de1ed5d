//! The position of capture and the server that it belongs to. They distinguish a slot that continued where capture
//! stopped from one that was dropped, re-created, advanced by hand, or left behind on another server.
//!
//! # What a crash does
//! The position is written to the table before it is confirmed to the server, so the service never moves the slot ahead
//! of it. A gap is recorded before the slot is re-created, and cleared when the changes that it may have hidden are
//! finished on the bus. After a crash in between, the gap is still recorded, and all of those changes are synced again.

use chunk_sync_engine::ports::{Gap, Position};

use super::literal;

/// The recorded state of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) server: Server,
    /// The slot may have been confirmed up to here; the server may have discarded the log before it.
    pub(super) position: Position,
    /// The name of an open gap.
    pub(super) gap: Option<String>,
}

/// A server by its system identifier, and its timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) system: String,
    pub(super) timeline: i64,
}

/// The state of the slot on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The position confirmed to the server.
    pub(super) confirmed: Position,
    /// Whether the server has invalidated the slot.
    pub(super) lost: bool,
}

/// Why capture may have missed changes; `None` when it cannot have missed any, or when nothing was captured before.
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

/// The current timeline. Not from the control file, which shows a new one only after the next checkpoint.
const TIMELINE: &str = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int";

/// The query for server, slot, recorded position and recorded signature of the publication: one text of eight words and
/// the signature, which [`State::read`] parses.
pub(super) fn state(slot: &str, plugin: &str) -> String {
    let (slot, plugin) = (literal(slot), literal(plugin));
    format!(
        "SELECT concat_ws(' ', system_identifier, {TIMELINE}, coalesce(s.state, 'none'), \
         coalesce(s.confirmed_flush_lsn, '0/0'), coalesce(p.system, '-'), coalesce(p.timeline, 0), \
         coalesce(p.position, '0/0'), coalesce(p.gap, '-'), p.published) \
         FROM pg_control_system() \
         LEFT JOIN (SELECT confirmed_flush_lsn, CASE \
             WHEN database IS DISTINCT FROM current_database() OR plugin IS DISTINCT FROM {plugin} THEN 'foreign' \
             WHEN wal_status = 'lost' THEN 'lost' WHEN active THEN 'active' ELSE 'free' END AS state \
             FROM pg_replication_slots WHERE slot_name = {slot}) s ON true \
         LEFT JOIN chunk_sync.positions p ON p.slot = {slot}"
    )
}

/// The state that capture needs before it opens the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) server: Server,
    /// `none`, `free`, `active`, `lost` or `foreign`.
    pub(super) slot: String,
    pub(super) confirmed: Position,
    pub(super) noted: Option<Noted>,
    /// The signature of the publication when the log was last opened.
    pub(super) published: Option<String>,
}

impl State {
    /// Parses the answer to [`state()`]; `None` when it has another form.
    pub(super) fn read(answer: &str) -> Option<Self> {
        let mut words = answer.splitn(9, ' ');
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
        Some(Self { server, slot, confirmed, noted, published: words.next().map(str::to_owned) })
    }

    /// Why capture may have missed changes.
    pub(super) fn gap(&self) -> Option<Gap> {
        let slot = Slot { confirmed: self.confirmed, lost: self.slot == "lost" };
        gap(self.noted.as_ref(), &self.server, Some(&slot).filter(|_| self.slot != "none"))
    }
}

/// Parses a `pg_lsn`: two halves in hexadecimal, separated by a slash.
pub(super) fn position(text: &str) -> Option<Position> {
    let (high, low) = text.split_once('/')?;
    Some(Position((u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?))
}

/// Records a gap, before anything else happens.
pub(super) fn note_gap(slot: &str, gap: Gap) -> String {
    format!("UPDATE chunk_sync.positions SET gap = '{}' WHERE slot = {}", gap.as_str(), literal(slot))
}

/// Records the position of the slot, its server and the signature of the publication, and returns the number of this opening. A position of another
/// server is replaced, because positions of two servers are not comparable.
pub(super) fn note_slot(slot: &str, signature: &str) -> String {
    format!(
        "INSERT INTO chunk_sync.positions (slot, system, timeline, position, opening, published) \
         SELECT slot_name, system_identifier, {TIMELINE}, confirmed_flush_lsn, 1, {} \
         FROM pg_replication_slots, pg_control_system() WHERE slot_name = {} \
         ON CONFLICT (slot) DO UPDATE SET system = excluded.system, timeline = excluded.timeline, \
         position = CASE WHEN positions.system = excluded.system THEN greatest(excluded.position, positions.position) \
         ELSE excluded.position END, opening = positions.opening + 1, noted_at = now(), \
         published = excluded.published RETURNING opening",
        literal(signature),
        literal(slot)
    )
}

/// Records the position up to which the slot may be confirmed from now on.
pub(super) fn note(slot: &str, opening: &str, position: Position) -> String {
    update(slot, opening, &format!("position = greatest(position, '{position}')"))
}

/// Records the signature of the publication after the service altered it.
pub(super) fn note_published(slot: &str, signature: &str) -> String {
    format!("UPDATE chunk_sync.positions SET published = {} WHERE slot = {}", literal(signature), literal(slot))
}

/// Clears the recorded gap.
pub(super) fn close_gap(slot: &str, opening: &str) -> String {
    update(slot, opening, "gap = NULL")
}

/// An update of the recorded state. It changes no row and returns none when the slot was opened again since.
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
    fn a_slot_that_continued_where_capture_stopped_has_no_gap() {
        assert_eq!(judged("7 1 free 0/10 7 1 0/10 -"), None);
        assert_eq!(
            judged("7 1 active 0/F 7 1 0/10 -"),
            None,
            "the server had not written the last confirmation to disk"
        );
        assert_eq!(judged("7 1 none 0/0 - 0 0/0 -"), None, "nothing was captured before");
    }

    #[test]
    fn the_signature_of_the_publication_is_the_rest_of_the_answer() {
        let read = |answer: &str| State::read(answer).unwrap().published;
        assert_eq!(read("7 1 free 0/10 7 1 0/10 -"), None);
        assert_eq!(read("7 1 free 0/10 7 1 0/10 dropped 16 7 - 0 0").as_deref(), Some("16 7 - 0 0"));
    }

    #[test]
    fn a_slot_that_may_have_skipped_changes_has_a_gap() {
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
