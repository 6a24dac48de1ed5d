//! The conflicts that the operations on a chunk detected and closed, in their order: what one transaction adds to the
//! record of conflicts.

use chunk_sync_model::merge::{Conflict, Kind, Outcome, Strategy};
use chunk_sync_model::{Part, SyncVersion, Time, Writer};

use crate::ports::{NewConflict, Resolution, ResolvedPart};

/// The labels under which a conflict is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConflictCount {
    pub(crate) kind: Kind,
    pub(crate) strategy: Strategy,
    pub(crate) outcome: Outcome,
}

/// The conflicts of a chunk, operation by operation.
#[derive(Debug)]
pub(crate) struct ConflictNotes {
    at: Time,
    pub(crate) decided: Vec<ResolvedPart>,
    pub(crate) noted: Vec<NewConflict>,
}

impl ConflictNotes {
    pub(crate) fn new(at: Time) -> Self {
        Self { at, decided: Vec::new(), noted: Vec::new() }
    }

    /// Records the conflicts that a change by `by`, merged as `version`, closed (`decided`) and detected (`conflicts`).
    pub(crate) fn note(&mut self, by: Writer, version: SyncVersion, decided: Vec<Part>, conflicts: Vec<Conflict>) {
        let closed = Resolution { at: self.at, by };
        for part in decided {
            // A conflict that this transaction detected is not on record yet: it is closed here.
            for noted in self.noted.iter_mut().filter(|noted| noted.is_open() && noted.conflict.part == part) {
                noted.closed = Some(closed);
            }
            if self.decided.iter().all(|earlier| earlier.part != part) {
                self.decided.push(ResolvedPart { part, closed });
            }
        }
        let noted = |conflict| NewConflict { at: self.at, sync_version: version, closed: None, conflict };
        self.noted.extend(conflicts.into_iter().map(noted));
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = ConflictCount> {
        self.noted.iter().map(|NewConflict { conflict: c, .. }| ConflictCount {
            kind: c.kind,
            strategy: c.strategy,
            outcome: c.outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use chunk_sync_model::merge::Side;

    use super::*;

    fn open(part: Part) -> Conflict {
        let [base, source, target, result] = [(); 4].map(|()| Side::default());
        let (kind, strategy) = (Kind::of(&part), Strategy::Manual);
        Conflict { part, kind, strategy, outcome: Outcome::Open, base, source, target, result }
    }

    #[test]
    fn a_decision_closes_what_came_before_it_and_nothing_after() {
        let (at, version) = (Time::from_micros(7), SyncVersion::new(9));
        let mut notes = ConflictNotes::new(at);
        notes.note(Writer::Claude, version, Vec::new(), vec![open(Part::Content), open(Part::Summary)]);
        notes.note(Writer::Operator, version, vec![Part::Content], Vec::new());
        notes.note(Writer::Cognee, version, Vec::new(), vec![open(Part::Content)]);
        let by: Vec<_> = notes.noted.iter().map(|noted| noted.closed.map(|closed| closed.by)).collect();
        assert_eq!(by, [Some(Writer::Operator), None, None]);
        assert_eq!(
            notes.decided,
            [ResolvedPart { part: Part::Content, closed: Resolution { at, by: Writer::Operator } }]
        );
        assert_eq!(notes.counts().count(), 3);
    }
}
