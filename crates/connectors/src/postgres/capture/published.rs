//! Whether the publication has published the table without interruption since the log was last opened.
//!
//! The signature consists of the object ids of the publication, of its entry for the table and of the table, and of the
//! transactions that wrote these catalogue rows last. It differs after each DROP, CREATE and ALTER, also when the
//! publication looks the same again. A signature that changes for another reason costs a backfill and a verification.
//!
//! `wal2json` reads no publication but the tables that it was given when the log was opened. Its signature lists them: rows
//! of a partition that is attached later are missing until the log is opened with that partition.

use std::collections::BTreeSet;

/// The signature of publication `$1` for table `$3` in schema `$2`.
pub(super) const SIGNATURE: &str = "SELECT concat_ws(' ', coalesce(p.oid, 0), coalesce(p.xmin::text, '-'),
        coalesce(r.oid, 0), coalesce(r.xmin::text, '-'), coalesce(c.oid, 0))
    FROM (SELECT) one LEFT JOIN pg_publication p ON p.pubname = $1
    LEFT JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', $2::text, $3::text))
    LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid";

/// The signature as [`SIGNATURE`] prints it and as it is recorded: words, of which the first is the object id of the
/// publication, or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signature(pub(super) String);

impl Signature {
    /// The signature of a log that is read from these tables.
    pub(super) fn of_relations(relations: &BTreeSet<u32>) -> Self {
        Self(relations.iter().fold("0 tables".to_owned(), |words, relation| format!("{words} {relation}")))
    }

    /// Whether both are of one publication. A slot cannot decode what was written before its publication existed.
    pub(super) fn is_of_same_publication(&self, other: &Self) -> bool {
        self.publication().is_some_and(|id| other.publication() == Some(id))
    }

    fn publication(&self) -> Option<u32> {
        let id = self.0.split(' ').next()?.parse().ok()?;
        Some(id).filter(|id| *id != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Signature;

    fn is_same(noted: &str, now: &str) -> bool {
        Signature(noted.into()).is_of_same_publication(&Signature(now.into()))
    }

    #[test]
    fn a_publication_that_was_created_again_is_another_one() {
        let noted = "16390 740 16391 740 16384";
        // Altered, or its entry for the table is a new one.
        assert!(is_same(noted, "16390 751 16399 751 16384"));
        assert!(!is_same(noted, "17000 760 17001 760 16384"));
        assert!(!is_same("0 - 0 - 16384", "0 - 0 - 16384"), "there is none");
    }
}
