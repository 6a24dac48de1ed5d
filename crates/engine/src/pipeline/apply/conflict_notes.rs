//! The conflicts that the operations on a chunk detected and closed, in their order: what one transaction adds to the
//! record of conflicts.

use chunk_sync_model::merge::{Conflict, Kind, Outcome, Strategy};
use chunk_sync_model::{Part, SyncVersion, Time, Writer};

use crate::ports::{Closed, Decided, Met};

/// The labels under which a conflict is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    pub(crate) strategy: Strategy,
    pub(crate) outcome: Outcome,
}

/// The conflicts of a chunk, operation by operation.
#[derive(Debug)]
pub(crate) struct Journal {
    at: Time,
    pub(crate) decided: Vec<Decided>,
    pub(crate) met: Vec<Met>,
}

impl Journal {
    pub(crate) fn new(at: Time) -> Self {
        Self { at, decided: Vec::new(), met: Vec::new() }
    }

    /// Records the conflicts that a change by `by`, merged as `version`, closed (`decided`) and detected (`conflicts`).
    pub(crate) fn note(&mut self, by: Writer, version: SyncVersion, decided: Vec<Part>, conflicts: Vec<Conflict>) {
        let closed = Closed { at: self.at, by };
        for part in decided {
            // A conflict that this transaction detected is not on record yet: it is closed here.
            for met in self.met.iter_mut().filter(|met| met.is_open() && met.conflict.part == part) {
                met.closed = Some(closed);
            }
            if self.decided.iter().all(|earlier| earlier.part != part) {
                self.decided.push(Decided { part, closed });
            }
        }
        let met = |conflict| Met { at: self.at, sync_version: version, closed: None, conflict };
        self.met.extend(conflicts.into_iter().map(met));
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> {
        self.met.iter().map(|Met { conflict: c, .. }| Mark { kind: c.kind, strategy: c.strategy, outcome: c.outcome })
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
        let mut journal = Journal::new(at);
        journal.note(Writer::Claude, version, Vec::new(), vec![open(Part::Content), open(Part::Summary)]);
        journal.note(Writer::Operator, version, vec![Part::Content], Vec::new());
        journal.note(Writer::Cognee, version, Vec::new(), vec![open(Part::Content)]);
        let by: Vec<_> = journal.met.iter().map(|met| met.closed.map(|closed| closed.by)).collect();
        assert_eq!(by, [Some(Writer::Operator), None, None]);
        assert_eq!(journal.decided, [Decided { part: Part::Content, closed: Closed { at, by: Writer::Operator } }]);
        assert_eq!(journal.marks().count(), 3);
    }
}
