//! The publication: whether it shows capture every change of the table, and whether it leaves the writes of the
//! application alone. Reads the catalogue and judges it; runs no statement that changes anything.
//!
//! PostgreSQL refuses an UPDATE or DELETE of a published table whose replica identity is not part of what is published.
//! So the list of columns is `(id)` only if the identity of the table, and of every partition, is a primary key of
//! just `id`; otherwise the whole table is published. Without an identity that contains `id` nothing is published at
//! all: the [`Refusal`] has the statement that gives the table one.

mod catalogue;
mod shape;

use std::collections::BTreeSet;

use chunk_sync_engine::ports::{Fault, FaultClass};
use deadpool_postgres::GenericClient;

use super::config::PostgresConfig;
use super::facts;
use super::fault::Error;
use super::sql::quoted;

/// Which columns of the table a new publication has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// Only `id` if the replica identity permits it, else the whole table.
    #[default]
    Least,
    /// The whole table: a later ALTER TABLE … REPLICA IDENTITY or of the primary key breaks no write.
    Whole,
}

/// The publication as it is, and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publication {
    /// The statements that create or correct it, in order; each is atomic.
    pub(super) statements: Vec<String>,
    /// Whether the publication exists.
    pub(super) exists: bool,
    /// Why changes made so far may be missing from the log of the publication.
    pub(super) hides: Option<&'static str>,
    /// The OIDs of the table and of its partitions, of all levels: no other relation concerns capture.
    pub(super) relations: BTreeSet<u32>,
}

/// Why the table cannot be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Publishing it would make the writes of the application fail, or would hide changes.
    #[error("{text}; {remedy}")]
    Shape {
        text: String,
        /// The statement that permits it.
        remedy: String,
    },
    /// The catalogue could not be read.
    #[error(transparent)]
    Query(#[from] Error),
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error.into())
    }
}

impl Refusal {
    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        match self {
            Self::Shape { .. } => Fault::new(FaultClass::Misconfigured, context, self),
            Self::Query(error) => error.into_fault(context),
        }
    }
}

/// The remedy if the service's role may not run this statement.
pub(super) fn as_owner(statement: &str) -> String {
    format!("run `{statement}` as the owner of the table and of its publication, with CREATE on the database")
}

/// Examines the replica identity of the table and of every partition, and the publication as far as it exists: its
/// kinds of changes, tables, columns and filter.
///
/// # Errors
/// [`Refusal::Shape`] if there is no usable replica identity, or the relation is none that can be published, with the
/// statement that changes it; [`Refusal::Query`] if the catalogue cannot be read.
pub(super) async fn examine_publication(
    client: &impl GenericClient,
    table: &PostgresConfig,
    name: &str,
    publish: Publish,
) -> Result<Publication, Refusal> {
    let shape = catalogue::read(client, table, name).await?;
    let relations = shape.relations.iter().map(|relation| relation.oid).collect();
    let (publication, table) = (quoted(name), facts::table(table));
    let statements = shape.statements(&publication, &table, publish)?;
    Ok(Publication { statements, exists: shape.publication.is_some(), hides: shape.hides(), relations })
}
