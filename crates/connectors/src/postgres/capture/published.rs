//! Whether the publication has published the table without interruption since the log was last opened.
//!
//! The signature consists of the object ids of the publication, of its entry for the table and of the table, and of the
//! transactions that wrote these catalogue rows last. It differs after each DROP, CREATE and ALTER, also when the
//! publication looks the same again. A signature that changes for another reason costs a backfill and a verification.

use super::literal;

/// The query for the signature.
pub(super) fn query(publication: &str, schema: &str, table: &str) -> String {
    let (publication, schema, table) = (literal(publication), literal(schema), literal(table));
    format!(
        "SELECT concat_ws(' ', coalesce(p.oid, 0), coalesce(p.xmin::text, '-'), coalesce(r.oid, 0), \
         coalesce(r.xmin::text, '-'), coalesce(c.oid, 0)) \
         FROM (SELECT) one LEFT JOIN pg_publication p ON p.pubname = {publication} \
         LEFT JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', {schema}, {table})) \
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid"
    )
}

/// Whether both signatures are of one publication. A slot cannot decode what was written before its publication existed.
pub(super) fn is_same(noted: &str, now: &str) -> bool {
    let publication = |signature: &str| signature.split(' ').next().map(str::to_owned);
    publication(noted) == publication(now) && publication(now).is_some_and(|oid| oid != "0")
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn a_publication_that_was_created_again_is_another_one() {
        let noted = "16390 740 16391 740 16384";
        // Altered, or its entry for the table is a new one.
        assert!(is_same(noted, "16390 751 16399 751 16384"));
        assert!(!is_same(noted, "17000 760 17001 760 16384"));
        assert!(!is_same("0 - 0 - 16384", "0 - 0 - 16384"), "there is none");
    }
}
