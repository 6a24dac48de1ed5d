//! Every statement on the graph's data. Values are always parameters; labels, types and property names are written out
//! here.
//!
//! Rows of parameters are lists, not maps: the keys would be the greater part of each message.
//!
//! A write transaction runs the statements in the order of this file. Setting an `id` to itself writes nothing, but
//! locks the node until the transaction ends. A later statement reads the node's contents, and so reads them under the
//! lock.

/// `$ids` in ascending order, every chunk that is written or deleted: creates the missing nodes and locks all of them.
pub(super) const LOCK_CHUNKS: &str = "UNWIND $ids AS id MERGE (c:Chunk {id: id}) SET c.id = id";

/// `$ids` in ascending order, every entity that the chunks name before or after the write: creates the missing nodes
/// and locks all of them.
pub(super) const LOCK_ENTITIES: &str = "UNWIND $ids AS id MERGE (e:Entity {id: id}) SET e.id = id";

/// The number of `$ids` that exist: the locked entities that [`ENTITIES`] does not count.
pub(super) const COUNT_ENTITIES: &str = "UNWIND $ids AS id MATCH (e:Entity {id: id}) RETURN count(e) AS count";

/// The result columns for a chunk `c`, without its relations. `decode` reads them.
macro_rules! document {
    () => {
        "RETURN c.id AS id, c.sync_version AS version,
            [c.content_hash, c.chunk_type, c.source_type, c.system_origin, c.created_at, c.updated_at] AS node,
            [(c)-[:BELONGS_TO]->(d:Dataset) | d.id] AS datasets,
            [(c)-[l:CONTAINS_ENTITY]->(e:Entity) | [e.id, l.name, l.type, l.confidence, l.position,
                l.relates_to, l.relates_as, l.relates_confidence]] AS entities"
    };
}

/// The documents of those chunks of `$ids` that exist, without relations.
pub(super) const READ: &str = concat!("UNWIND $ids AS id MATCH (c:Chunk {id: id}) ", document!());

/// At most `$limit` documents with an id above `$after`, in ascending order. A node whose id is not a lower-case UUID
/// belongs to another application and is skipped.
pub(super) const SCAN: &str = concat!(
    "MATCH (c:Chunk) WHERE c.id > $after
        AND c.id =~ '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
    WITH c ORDER BY c.id LIMIT $limit ",
    document!(),
    " ORDER BY id"
);

/// The relations for which chunks of `$ids` that contain both ends are evidence. Each evidence list is read once,
/// however many of the chunks it contains. If another client stored a single value instead of a list, it counts as a
/// list of one.
pub(super) const EVIDENCE: &str = "UNWIND $ids AS id
    MATCH (c:Chunk {id: id})
    WITH c, [(c)-[:CONTAINS_ENTITY]->(e:Entity) | e] AS held
    UNWIND held AS s
    MATCH (s)-[r:RELATES_TO]->(t:Entity) WHERE t IN held
    WITH s, r, t, collect(c.id) AS chunks
    WITH s, r, t, chunks, [] + coalesce(r.evidence, []) AS evidence
    RETURN s.id AS source, t.id AS target, r.type AS type, [id IN chunks WHERE id IN evidence] AS chunks";

/// `$rows` of chunk, entities: deletes the chunk's links to these entities, because they are gone or are written again
/// by [`CHUNKS`]. Null means all entities.
pub(super) const UNLINK: &str = "UNWIND $rows AS row
    MATCH (:Chunk {id: row[0]})-[l:CONTAINS_ENTITY]->(e) WHERE row[1] IS NULL OR e.id IN row[1]
    DELETE l";

/// `$ids`: removes the chunks from their data sets.
pub(super) const LEAVE_DATASETS: &str = "UNWIND $ids AS id MATCH (:Chunk {id: id})-[b:BELONGS_TO]->(:Dataset) DELETE b";

/// `$rows` of source, target, type, chunks: removes the chunks from the relation's evidence. Deletes the relation if no
/// evidence is left, and deletes duplicates of it, which only another client can have created.
pub(super) const REMOVE_EVIDENCE: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row[0]}) MATCH (t:Entity {id: row[1]})
    WITH row, s, t
    MATCH (s)-[r:RELATES_TO {type: row[2]}]->(t)
    WITH row[3] AS chunks, s, t, collect(r) AS copies
    FOREACH (copy IN tail(copies) | DELETE copy)
    WITH chunks, head(copies) AS r
    WITH r, [id IN [] + coalesce(r.evidence, []) WHERE NOT id IN chunks] AS left
    SET r.evidence = left
    WITH r, left WHERE size(left) = 0
    DELETE r";

/// `$ids`: deletes the chunks.
pub(super) const DELETE: &str = "UNWIND $ids AS id MATCH (c:Chunk {id: id}) DETACH DELETE c";

/// `$rows` of id, content hash, chunk type, source type, system origin, created, updated, sync version, links. Each
/// link is entity, name, type, confidence, positions, and its relations' targets, types and confidences. Sets the
/// properties of the chunks, leaves other clients' properties alone, and creates the links that are new or changed.
pub(super) const CHUNKS: &str = "UNWIND $rows AS row
    MATCH (c:Chunk {id: row[0]})
    SET c.content_hash = row[1], c.chunk_type = row[2], c.source_type = row[3], c.system_origin = row[4],
        c.created_at = row[5], c.updated_at = row[6], c.sync_version = row[7]
    WITH c, row[8] AS links
    UNWIND links AS link
    MATCH (e:Entity {id: link[0]})
    CREATE (c)-[:CONTAINS_ENTITY {name: link[1], type: link[2], confidence: link[3], position: link[4],
        relates_to: link[5], relates_as: link[6], relates_confidence: link[7]}]->(e)";

/// `$ids`: creates the missing projects.
pub(super) const PROJECTS: &str = "UNWIND $ids AS id MERGE (:Project {id: id})";

/// `$ids`: creates the missing data sets.
pub(super) const DATASETS: &str = "UNWIND $ids AS id MERGE (:Dataset {id: id})";

/// `$rows` of data set, project: makes the data set part of this project only. The last write decides.
pub(super) const PART_OF: &str = "UNWIND $rows AS row
    MATCH (d:Dataset {id: row[0]}) MATCH (p:Project {id: row[1]})
    WHERE NOT EXISTS { (d)-[:PART_OF]->(p) }
    SET d.id = row[0]
    WITH d, p
    OPTIONAL MATCH (d)-[old:PART_OF]->(:Project)
    DELETE old
    WITH DISTINCT d, p
    MERGE (d)-[:PART_OF]->(p)";

/// `$rows` of data set, chunk, in ascending order: adds the chunks to the data sets.
pub(super) const JOIN_DATASETS: &str = "UNWIND $rows AS row
    MATCH (d:Dataset {id: row[0]}) MATCH (c:Chunk {id: row[1]})
    CREATE (c)-[:BELONGS_TO]->(d)";

/// Whether what `chunk` states under `version` replaces what an entity or relation shows: unless that is newer, or as new
/// and by a greater chunk. A version above `$highest` keeps out only what is above that too, and one that is no number
/// nothing: other programs wrote them. See [`SyncVersion::keeps_out`](chunk_sync_model::SyncVersion::keeps_out).
macro_rules! replaces {
    ($of:literal) => {
        concat!(
            "NOT coalesce((",
            $of,
            ".sync_version <= $highest OR version > $highest) AND (",
            $of,
            ".sync_version > version OR (",
            $of,
            ".sync_version = version AND ",
            $of,
            ".said_by > chunk)), false)"
        )
    };
}

/// `$rows` of source, target, type, chunks, chunk, version, confidence: adds the chunks as evidence, and sets the
/// confidence that the newest written chunk states, unless the stored one is newer. The list can contain a chunk
/// already: an entry stays when another client deletes the chunk's node.
pub(super) const ADD_EVIDENCE: &str = concat!(
    "UNWIND $rows AS row
    MATCH (s:Entity {id: row[0]}) MATCH (t:Entity {id: row[1]})
    MERGE (s)-[r:RELATES_TO {type: row[2]}]->(t)
    FOREACH (new IN CASE WHEN size(row[3]) = 0 THEN [] ELSE [row[3]] END |
        SET r.evidence = [id IN [] + coalesce(r.evidence, []) WHERE NOT id IN new] + new)
    WITH r, row[4] AS chunk, row[5] AS version, row[6] AS confidence
    WHERE ",
    replaces!("r"),
    "
    SET r.confidence = confidence, r.said_by = chunk, r.sync_version = version"
);

/// `$rows` of entity, chunk, version, name, type, confidence, first, last: sets what the newest written chunk states
/// about the entity, unless the stored statement is newer. Extends `first_seen` and `last_seen` to the earliest
/// creation and the latest update of the written chunks. Times compare as text after their `Z` is removed: with the
/// `Z`, a time with fewer digits would sort after one with more. Returns the number of entities that exist: fewer than
/// were locked means that another client deleted one meanwhile.
pub(super) const ENTITIES: &str = concat!(
    "UNWIND $rows AS row
    MATCH (e:Entity {id: row[0]})
    SET e.first_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.first_seen), 'Z', '') <= replace(row[6], 'Z', ''), false)
            THEN e.first_seen ELSE row[6] END,
        e.last_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.last_seen), 'Z', '') >= replace(row[7], 'Z', ''), false)
            THEN e.last_seen ELSE row[7] END
    WITH e, row, row[1] AS chunk, row[2] AS version
    FOREACH (stated IN CASE WHEN ",
    replaces!("e"),
    " THEN [row] ELSE [] END |
        SET e.name = stated[3], e.type = stated[4], e.confidence = stated[5], e.said_by = chunk, e.sync_version = version)
    RETURN count(e) AS count"
);

/// `$rows` of entity, chunks, firsts, lasts: entities that lost a supporter or its times, with the chunk ids and times
/// that may have determined the shared properties. Where one of them did, recomputes the properties from all
/// supporters. Versions above `$highest` are of other programs, and count as none.
pub(super) const RECOMPUTE_ENTITIES: &str = "UNWIND $rows AS row
    MATCH (e:Entity {id: row[0]})
    WHERE e.said_by IN row[1] OR e.first_seen IN row[2] OR e.last_seen IN row[3]
    MATCH (e)<-[l:CONTAINS_ENTITY]-(c:Chunk)
    WITH e, max([CASE WHEN c.sync_version <= $highest THEN c.sync_version ELSE 0 END, c.id, l.name, l.type, l.confidence]) AS best,
        min([replace(toStringOrNull(c.created_at), 'Z', ''), c.created_at]) AS first,
        max([coalesce(replace(toStringOrNull(c.updated_at), 'Z', ''), ''), c.updated_at]) AS last
    SET e.name = best[2], e.type = best[3], e.confidence = best[4], e.said_by = best[1], e.sync_version = best[0],
        e.first_seen = first[1], e.last_seen = last[1]";

/// `$rows` of source, target, type, chunks: relations that lost this evidence. Where one of the chunks had determined
/// the confidence, recomputes it from the remaining evidence.
pub(super) const RECOMPUTE_RELATIONS: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row[0]}) MATCH (t:Entity {id: row[1]})
    WITH row, s, t
    MATCH (s)-[r:RELATES_TO {type: row[2]}]->(t)
    WHERE r.said_by IN row[3]
    WITH row, s, r
    UNWIND r.evidence AS id
    MATCH (c:Chunk {id: id})
    WITH row, s, r, c
    MATCH (c)-[l:CONTAINS_ENTITY]->(s)
    UNWIND range(0, size(l.relates_to) - 1) AS i
    WITH row, r, c, l, i WHERE l.relates_to[i] = row[1] AND l.relates_as[i] = row[2]
    WITH r, max([CASE WHEN c.sync_version <= $highest THEN c.sync_version ELSE 0 END, c.id, l.relates_confidence[i]]) AS best
    SET r.confidence = best[2], r.said_by = best[1], r.sync_version = best[0]";

/// `$ids` of entities that a chunk no longer contains: deletes those that no chunk contains.
pub(super) const ORPHANS: &str = "UNWIND $ids AS id
    MATCH (e:Entity {id: id}) WHERE NOT EXISTS { (e)<-[:CONTAINS_ENTITY]-() }
    DETACH DELETE e";

/// The numbers of nodes and relationships, from the server's count store.
pub(super) const COUNTS: &str = "MATCH (n:Chunk) WITH count(n) AS count RETURN 'chunks' AS name, count
    UNION ALL MATCH (n:Entity) WITH count(n) AS count RETURN 'entities' AS name, count
    UNION ALL MATCH ()-[r:CONTAINS_ENTITY]->() WITH count(r) AS count RETURN 'entity_links' AS name, count
    UNION ALL MATCH ()-[r:RELATES_TO]->() WITH count(r) AS count RETURN 'relations' AS name, count";

/// Fails if the user may not write or the database accepts no writes. Leaves nothing behind, not even a label in the
/// list of labels.
pub(super) const CHECK: &str = "CREATE (n) DELETE n";
