//! What the catalogue shows of the table and its publication, and what follows from it. Pure.

use super::{Publish, Refusal};

/// The kinds of changes that capture needs.
const ALL_KINDS: &str = "publish = 'insert, update, delete, truncate'";

/// The table, its partitions, and the publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The table first, then its partitions; empty while the table does not exist.
    pub(super) relations: Vec<Relation>,
    /// The publication, if it exists.
    pub(super) publication: Option<Existing>,
}

/// A table or a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    /// Schema and name, quoted.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_logged: bool,
    pub(super) identity: Identity,
    /// The columns of the primary key, as far as it is valid and not deferrable.
    pub(super) primary_key: Vec<String>,
    /// The quoted name of a unique index that contains `id` and may serve as the identity.
    pub(super) unique_index: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Table,
    Partitioned,
    /// A view, a foreign table or another relation without changes in this server's log.
    Other,
}

/// The replica identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Identity {
    /// The primary key.
    #[default]
    PrimaryKey,
    /// These columns of a unique index; none if that index was dropped.
    Index(Vec<String>),
    /// Every column.
    Full,
    Nothing,
}

/// A publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Existing {
    /// Whether it publishes INSERT, UPDATE, DELETE and TRUNCATE.
    pub(super) all_kinds: bool,
    pub(super) via_root: bool,
    /// Whether it publishes all tables of the database, or of the table's schema.
    pub(super) whole_scope: bool,
    /// The entry of the table.
    pub(super) member: Option<Member>,
}

/// The entry of a table in a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// The published columns; `None` for all.
    pub(super) columns: Option<Vec<String>>,
    pub(super) is_filtered: bool,
}

impl Relation {
    /// The columns that identify an old row; `None` for all.
    fn identity(&self) -> Option<&[String]> {
        match &self.identity {
            Identity::PrimaryKey => Some(&self.primary_key),
            Identity::Index(columns) => Some(columns),
            Identity::Full => None,
            Identity::Nothing => Some(&[]),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let name = &self.name;
        let (text, remedy) = match self.kind {
            Kind::Other => (
                format!("{name} is a view or a foreign table, whose changes are not in the log of this server"),
                "set postgres.table to a table of this server, or detach the foreign partition".to_owned(),
            ),
            _ if !self.is_logged => (
                format!("{name} is not logged, so its changes cannot be captured"),
                format!("ALTER TABLE {name} SET LOGGED"),
            ),
            Kind::Table if self.identity().is_some_and(|columns| !has_id(columns)) => (
                format!(
                    "{name} has no replica identity that contains `id`: once it is published, its updates and deletes \
                     are refused or cannot be captured"
                ),
                self.remedy(),
            ),
            _ => return Ok(()),
        };
        Err(Refusal::Shape { text, remedy })
    }

    fn remedy(&self) -> String {
        let name = &self.name;
        match &self.unique_index {
            _ if has_id(&self.primary_key) => format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
            Some(index) => format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index}"),
            None if self.primary_key.is_empty() => format!("ALTER TABLE {name} ADD PRIMARY KEY (id)"),
            None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL"),
        }
    }

    /// Whether the list of just `id` covers the identity, and the identity is the primary key.
    fn is_id(&self) -> bool {
        self.identity == Identity::PrimaryKey && self.primary_key == ["id"]
    }
}

fn has_id(columns: &[String]) -> bool {
    columns.iter().any(|column| column == "id")
}

impl Shape {
    /// The statements that create or correct the publication.
    pub(super) fn statements(&self, publication: &str, table: &str, publish: Publish) -> Result<Vec<String>, Refusal> {
        self.relations.iter().try_for_each(Relation::check)?;
        let least = publish == Publish::Least && self.rows().all(Relation::is_id);
        let columns = if least { " (id)" } else { "" };
        let is_partitioned = self.relations.first().is_some_and(|root| root.kind == Kind::Partitioned);
        let Some(existing) = &self.publication else {
            let option = if is_partitioned { " WITH (publish_via_partition_root = true)" } else { "" };
            return Ok(vec![format!("CREATE PUBLICATION {publication} FOR TABLE {table}{columns}{option}")]);
        };
        let mut options = Vec::new();
        if !existing.all_kinds {
            options.push(ALL_KINDS);
        }
        if is_partitioned && !existing.via_root {
            options.push("publish_via_partition_root = true");
        }
        let mut statements = Vec::new();
        if !options.is_empty() {
            statements.push(format!("ALTER PUBLICATION {publication} SET ({})", options.join(", ")));
        }
        let add = format!("ALTER PUBLICATION {publication} ADD TABLE {table}{columns}");
        match &existing.member {
            // In one statement list, which the server runs as one transaction.
            Some(member) if !self.suits(member, publish) => {
                statements.push(format!("ALTER PUBLICATION {publication} DROP TABLE {table}; {add}"));
            }
            None if !existing.whole_scope => statements.push(add),
            _ => {}
        }
        Ok(statements)
    }

    /// Why changes may have passed that the publication did not show.
    pub(super) fn hides(&self) -> Option<&'static str> {
        let Some(existing) = &self.publication else {
            return Some("the publication does not exist");
        };
        match &existing.member {
            _ if !existing.all_kinds => Some("the publication leaves out a kind of change"),
            None if !existing.whole_scope => Some("the publication does not contain the table"),
            Some(member) if member.is_filtered => Some("the publication filters rows"),
            _ => None,
        }
    }

    /// The relations that have rows.
    fn rows(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter().filter(|relation| relation.kind == Kind::Table)
    }

    /// Whether an entry of the publication shows every change and covers every identity.
    fn suits(&self, member: &Member, publish: Publish) -> bool {
        let covers = |columns: &Vec<String>| {
            let covered = |names: &[String]| names.iter().all(|name| columns.contains(name));
            has_id(columns) && self.rows().all(|relation| relation.identity().is_some_and(covered))
        };
        let columns = match &member.columns {
            None => true,
            Some(columns) => publish == Publish::Least && covers(columns),
        };
        columns && !member.is_filtered
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|&column| column.to_owned()).collect()
    }

    fn keyed(columns: &[&str]) -> Relation {
        Relation { name: "t".to_owned(), is_logged: true, primary_key: names(columns), ..Relation::default() }
    }

    fn with(identity: Identity) -> Relation {
        Relation { identity, ..keyed(&["id"]) }
    }

    fn published(relations: &[Relation], publication: Option<Existing>) -> Result<Vec<String>, String> {
        let shape = Shape { relations: relations.to_vec(), publication };
        shape.statements("p", "t", Publish::Least).map_err(|refusal| refusal.to_string())
    }

    const ID: &str = "CREATE PUBLICATION p FOR TABLE t (id)";
    const WHOLE: &str = "CREATE PUBLICATION p FOR TABLE t";

    #[test]
    fn only_the_id_is_published_if_every_identity_is_a_primary_key_of_it() {
        let of = |relation: Relation| published(&[relation], None).unwrap();
        assert_eq!(published(&[], None).unwrap(), [ID], "the table that init creates");
        assert_eq!(of(keyed(&["id"])), [ID]);
        assert_eq!(of(keyed(&["project_id", "id"])), [WHOLE]);
        assert_eq!(of(with(Identity::Full)), [WHOLE]);
        assert_eq!(of(with(Identity::Index(names(&["id"])))), [WHOLE]);
        let root = Relation { kind: Kind::Partitioned, ..keyed(&["id"]) };
        let via_root = " WITH (publish_via_partition_root = true)";
        assert_eq!(published(&[root.clone(), keyed(&["id"])], None).unwrap(), [format!("{ID}{via_root}")]);
        assert_eq!(published(&[root, with(Identity::Full)], None).unwrap(), [format!("{WHOLE}{via_root}")]);
        let shape = Shape { relations: vec![keyed(&["id"])], publication: None };
        assert_eq!(shape.statements("p", "t", Publish::Whole).unwrap(), [WHOLE]);
    }

    #[test]
    fn a_table_without_a_usable_identity_is_refused_with_the_statement_that_gives_it_one() {
        let index = Some("i".to_owned());
        for (relation, remedy) in [
            (keyed(&[]), "ALTER TABLE t ADD PRIMARY KEY (id)"),
            (keyed(&["key"]), "ALTER TABLE t REPLICA IDENTITY FULL"),
            (
                Relation { unique_index: index.clone(), ..keyed(&["key"]) },
                "ALTER TABLE t REPLICA IDENTITY USING INDEX i",
            ),
            (with(Identity::Nothing), "ALTER TABLE t REPLICA IDENTITY DEFAULT"),
            (with(Identity::Index(names(&["other"]))), "ALTER TABLE t REPLICA IDENTITY DEFAULT"),
            (Relation { is_logged: false, ..keyed(&["id"]) }, "ALTER TABLE t SET LOGGED"),
            (Relation { kind: Kind::Other, ..keyed(&["id"]) }, "set postgres.table to a table"),
        ] {
            let refused = published(&[keyed(&["id"]), relation.clone()], None).unwrap_err();
            assert!(refused.contains(remedy), "{relation:?}: {refused}");
        }
    }

    #[test]
    fn a_publication_that_shows_everything_is_left_alone() {
        let all = Existing { all_kinds: true, ..Existing::default() };
        let member = |columns: Option<&[&str]>| Existing {
            member: Some(Member { columns: columns.map(names), is_filtered: false }),
            ..all.clone()
        };
        for (relation, existing) in [
            (keyed(&["id"]), member(None)),
            (keyed(&["id"]), member(Some(&["id"]))),
            (keyed(&["id", "project_id"]), member(Some(&["content", "id", "project_id"]))),
            (with(Identity::Full), member(None)),
            (with(Identity::Full), Existing { whole_scope: true, ..all.clone() }),
        ] {
            let shape = Shape { relations: vec![relation], publication: Some(existing) };
            assert_eq!(shape.statements("p", "t", Publish::Least).unwrap(), names(&[]), "{shape:?}");
            assert_eq!(shape.hides(), None);
        }
    }

    #[test]
    fn a_publication_that_hides_changes_or_breaks_writes_is_corrected() {
        let again = "ALTER PUBLICATION p DROP TABLE t; ALTER PUBLICATION p ADD TABLE t";
        let member = |columns: Option<&[&str]>, is_filtered| Existing {
            all_kinds: true,
            member: Some(Member { columns: columns.map(names), is_filtered }),
            ..Existing::default()
        };
        let with_full = |existing| published(&[with(Identity::Full)], Some(existing)).unwrap();
        assert_eq!(with_full(member(Some(&["id"]), false)), [again]);
        assert_eq!(with_full(member(None, true)), [again]);
        let keyed = |existing| published(&[keyed(&["id"])], Some(existing)).unwrap();
        assert_eq!(keyed(member(Some(&["content"]), false)), [format!("{again} (id)")]);
        let none = Existing { all_kinds: true, ..Existing::default() };
        assert_eq!(keyed(none), ["ALTER PUBLICATION p ADD TABLE t (id)"]);
        let few = Existing { all_kinds: false, ..member(None, false) };
        assert_eq!(keyed(few), ["ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')"]);
    }
}
