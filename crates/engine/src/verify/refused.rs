//! What the dead letters show about chunks that differ: a store has refused the row as it is. Another repair would be refused
//! as well, and add a letter. So the scrubber repairs such a chunk once, and not after each start. `dead retry` and
//! `verify --repair` send it again.

use std::collections::BTreeMap;

use chunk_sync_model::{Target, Time};
use uuid::Uuid;

use super::Finding;
use crate::ports::{DeadLetters, Fault, Letter};

/// Letters read at once.
const PAGE: usize = 100;

/// When a row was refused last, and by which stores.
type Refusal = (Time, Vec<Target>);

/// Takes those out of the findings that only show what a store has refused since the row changed, and returns them.
pub(super) async fn leave_out(letters: &dyn DeadLetters, findings: &mut Vec<Finding>) -> Result<Vec<Finding>, Fault> {
    if findings.is_empty() {
        return Ok(Vec::new());
    }
    let refusals = refusals(letters).await?;
    let is_refused =
        |finding: &mut Finding| refusals.get(&finding.id).is_some_and(|refusal| explains(refusal, finding));
    Ok(findings.extract_if(.., is_refused).collect())
}

/// Whether these stores are all that differ, and have refused the row of this version. A row that is absent, or that the
/// system of record refused, is another matter.
fn explains((at, by): &Refusal, finding: &Finding) -> bool {
    // The version of a row is not above the time of a letter that is written after its merge.
    let of_this_row = *at >= Time::from_micros(finding.version.signed());
    let refused = finding.differences.iter().all(|difference| by.contains(&difference.store));
    finding.row.is_some() && of_this_row && refused
}

/// The last refusal of each chunk whose event only stated that its row was written.
async fn refusals(letters: &dyn DeadLetters) -> Result<BTreeMap<Uuid, Refusal>, Fault> {
    let (mut refusals, mut after) = (BTreeMap::new(), None);
    loop {
        let page = letters.dead(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(refusals) };
        after = Some(last.id);
        refusals.extend(page.iter().filter_map(of_signal));
    }
}

fn of_signal(letter: &Letter) -> Option<(Uuid, Refusal)> {
    let reasons = letter.reasons();
    let is_signal = letter.text("writer").is_some_and(|writer| writer == "postgres");
    (is_signal && !reasons.missing.contains(&Target::Postgres))
        .then_some((letter.chunk()?, (reasons.at?, reasons.missing)))
}

#[cfg(test)]
mod tests {
    use chunk_sync_model::{Hash, SyncVersion};

    use super::*;
    use crate::verify::{Difference, Kind};

    fn finding(stores: &[Target]) -> Finding {
        let id = Uuid::nil();
        let difference = |store: &Target| Difference { id, store: *store, kind: Kind::Missing, fields: Vec::new() };
        Finding {
            id,
            row: Some(Hash::of_bytes(b"a row")),
            lives: Some(true),
            version: SyncVersion::new(7),
            shown: Vec::new(),
            differences: stores.iter().map(difference).collect(),
        }
    }

    #[test]
    fn a_refusal_explains_only_what_differs_in_that_store_since_then() {
        let by_qdrant = |at| (Time::from_micros(at), vec![Target::Qdrant]);
        let of_qdrant = finding(&[Target::Qdrant]);
        assert!(explains(&by_qdrant(8), &of_qdrant));
        assert!(!explains(&by_qdrant(6), &of_qdrant), "the row has changed since");
        assert!(!explains(&by_qdrant(8), &finding(&[Target::Qdrant, Target::Neo4j])), "another store differs as well");
        assert!(!explains(&by_qdrant(8), &Finding { row: None, ..of_qdrant }), "the row is absent");
    }
}
