//! Reads the table, its partitions and the publication from the catalogue.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::shape::{Existing, Identity, Kind, Member, Relation, Shape};
use crate::postgres::config::PostgresConfig;
use crate::postgres::fault::Error;

/// The table first, then the tables that inherit from it: partitions of all levels. Of an index only the key columns
/// count, and only of one that is valid, unique, not deferrable, not partial and without expressions. A unique index
/// serves as an identity only if its columns are NOT NULL.
const RELATIONS: &str = "WITH RECURSIVE tree (oid, level) AS (
        SELECT c.oid, 0 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2
        UNION SELECT i.inhrelid, tree.level + 1 FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid),
    indexes AS (
        SELECT i.indrelid, i.indisprimary, i.indisreplident, x.relname,
            array_agg(a.attname::text ORDER BY a.attnum) AS columns, bool_and(a.attnotnull) AS filled
        FROM tree JOIN pg_index i ON i.indrelid = tree.oid JOIN pg_class x ON x.oid = i.indexrelid
        JOIN pg_attribute a ON a.attrelid = i.indrelid
            AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
        WHERE i.indisvalid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
        GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indisreplident, x.relname)
    SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence = 'p', c.relreplident::text,
        (SELECT columns FROM indexes i WHERE i.indrelid = c.oid AND i.indisprimary),
        (SELECT columns FROM indexes i WHERE i.indrelid = c.oid AND i.indisreplident),
        (SELECT min(quote_ident(i.relname)) FROM indexes i
            WHERE i.indrelid = c.oid AND NOT i.indisprimary AND i.filled AND 'id' = ANY (i.columns))
    FROM tree JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY tree.level, c.oid";

const PUBLICATION: &str = "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot,
        p.puballtables OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
            WHERE s.pnpubid = p.oid AND n.nspname = $2),
        r.oid IS NOT NULL, r.prqual IS NOT NULL,
        (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::smallint[]))
    FROM pg_publication p LEFT JOIN (pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
        JOIN pg_namespace m ON m.oid = c.relnamespace AND m.nspname = $2 AND c.relname = $3) ON r.prpubid = p.oid
    WHERE p.pubname = $1";

pub(super) async fn read(client: &impl GenericClient, table: &PostgresConfig, name: &str) -> Result<Shape, Error> {
    let rows = client.query(RELATIONS, &[&table.schema, &table.table]).await?;
    let relations = rows.iter().map(relation).collect::<Result<_, _>>()?;
    let row = client.query_opt(PUBLICATION, &[&name, &table.schema, &table.table]).await?;
    Ok(Shape { relations, publication: row.as_ref().map(existing).transpose()? })
}

fn relation(row: &Row) -> Result<Relation, Error> {
    let columns = |place| row.try_get::<_, Option<Vec<String>>>(place).map(Option::unwrap_or_default);
    let identity = match row.try_get::<_, &str>(4)? {
        "f" => Identity::Full,
        "n" => Identity::Nothing,
        "i" => Identity::Index(columns(6)?),
        _ => Identity::PrimaryKey,
    };
    let kind = match row.try_get::<_, &str>(2)? {
        "r" => Kind::Table,
        "p" => Kind::Partitioned,
        _ => Kind::Other,
    };
    Ok(Relation {
        oid: row.try_get(0)?,
        name: row.try_get(1)?,
        kind,
        is_logged: row.try_get(3)?,
        identity,
        primary_key: columns(5)?,
        unique_index: row.try_get(7)?,
    })
}

fn existing(row: &Row) -> Result<Existing, Error> {
    let is_member: bool = row.try_get(3)?;
    let member = Member { columns: row.try_get(5)?, is_filtered: row.try_get(4)? };
    Ok(Existing {
        all_kinds: row.try_get(0)?,
        via_root: row.try_get(1)?,
        whole_scope: row.try_get(2)?,
        member: is_member.then_some(member),
    })
}
