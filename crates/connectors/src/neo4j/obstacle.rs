//! What is in the way of a unique constraint, with the statement that removes it, in the same words for `init` and `doctor`.

use super::bolt::Statement;
use super::fault::Error;
use super::server::Server;

/// A constraint has an index of its own, and Neo4j permits no second one of this kind on the same property.
const INDEX: &str = "SHOW INDEXES YIELD name, type, entityType, labelsOrTypes, properties
    WHERE entityType = 'NODE' AND type IN ['RANGE', 'BTREE'] AND labelsOrTypes = [$label] AND properties = ['id']
    RETURN name";

/// The index of a constraint has the name of the constraint. Neo4j 4.4 does not show which constraint owns an index.
const CONSTRAINTS: &str = "SHOW CONSTRAINTS YIELD name RETURN name";

/// Indexes and constraints share their names.
const NAMED_CONSTRAINT: &str = "SHOW CONSTRAINTS YIELD name WHERE name = $name RETURN name";
const NAMED_INDEX: &str = "SHOW INDEXES YIELD name WHERE name = $name RETURN name";

/// Ids that several nodes have, at most this many.
const SAMPLES: usize = 4;

/// What is in the way, and what to do.
pub(super) struct Obstacle {
    pub(super) text: String,
    pub(super) remedy: String,
}

/// The first obstacle of the constraints on the ids of these labels. Reads all their nodes.
pub(super) async fn first(server: &Server, labels: &[&str]) -> Result<Option<Obstacle>, Error> {
    for label in labels {
        if let Some(obstacle) = of_label(server, label).await? {
            return Ok(Some(obstacle));
        }
    }
    Ok(None)
}

async fn of_label(server: &Server, label: &str) -> Result<Option<Obstacle>, Error> {
    let names = server.texts(&Statement::new(INDEX).with("label", label), "name").await?;
    let constraints = server.texts(&Statement::new(CONSTRAINTS), "name").await?;
    if let Some(name) = names.iter().find(|name| !constraints.contains(name)) {
        return Ok(Some(Obstacle {
            text: format!("the index `{name}` on {label}.id is in the way of the unique constraint, which has its own"),
            remedy: format!("run \"DROP INDEX {}\" in Neo4j, then `chunk-sync init`", quoted(name)),
        }));
    }
    let own = format!("chunk_sync_{}_id", label.to_lowercase());
    for (statement, kind) in [(NAMED_CONSTRAINT, "CONSTRAINT"), (NAMED_INDEX, "INDEX")] {
        if !server.texts(&Statement::new(statement).with("name", own.as_str()), "name").await?.is_empty() {
            let kind_in_words = kind.to_lowercase();
            return Ok(Some(Obstacle {
                text: format!("another {kind_in_words} has the name `{own}` of the unique constraint on {label}.id"),
                remedy: format!("run `DROP {kind} {own}` in Neo4j, then `chunk-sync init`"),
            }));
        }
    }
    duplicates(server, label).await
}

async fn duplicates(server: &Server, label: &str) -> Result<Option<Obstacle>, Error> {
    let statement = format!(
        "MATCH (n:{label}) WHERE n.id IS NOT NULL WITH n.id AS id, count(*) AS count WHERE count > 1
         RETURN toString(id) AS id LIMIT {SAMPLES}"
    );
    let ids = server.texts(&Statement::new(&statement), "id").await?;
    if ids.is_empty() {
        return Ok(None);
    }
    let shown: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    let more = if ids.len() == SAMPLES { " and perhaps others" } else { "" };
    Ok(Some(Obstacle {
        text: format!("several {label} nodes have the same id: {}{more}", shown.join(", ")),
        remedy: format!(
            "merge them, or keep one of each: `MATCH (n:{label}) WITH n.id AS id, collect(n) AS nodes WHERE size(nodes) > 1 \
             UNWIND nodes[1..] AS other DETACH DELETE other`; then run `chunk-sync init`"
        ),
    }))
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
