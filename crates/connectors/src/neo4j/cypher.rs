//! Every statement on the graph's data. Values come as parameters only; labels, types and property names stand here.
//!
//! Rows are lists, each value at its place, for names would be the greater part of what is sent.
//!
//! A transaction of writes runs them in the order of this page. Setting an `id` to itself writes nothing, but takes the
//! node's lock until the transaction ends; what the node holds is read by a later statement, and so under the lock.

/// `$ids` ascending: every chunk that is written or deleted, made where it is missing, and locked.
pub(super) const LOCK_CHUNKS: &str = "UNWIND $ids AS id MERGE (c:Chunk {id: id}) SET c.id = id";

/// `$ids` ascending: every entity that the chunks named or will name, made where it is missing, and locked.
pub(super) const LOCK_ENTITIES: &str = "UNWIND $ids AS id MERGE (e:Entity {id: id}) SET e.id = id";

/// How many of `$ids` are there: fewer than were locked means that somebody deleted one just before.
pub(super) const COUNT_ENTITIES: &str = "UNWIND $ids AS id MATCH (e:Entity {id: id}) RETURN count(e) AS count";

/// What a chunk `c` holds but for its relations, as `decode` reads it.
macro_rules! document {
    () => {
        "RETURN c.id AS id, c.sync_version AS version,
            [c.content_hash, c.chunk_type, c.source_type, c.system_origin, c.created_at, c.updated_at] AS node,
            [(c)-[:BELONGS_TO]->(d:Dataset) | d.id] AS datasets,
            [(c)-[l:CONTAINS_ENTITY]->(e:Entity) | [e.id, l.name, l.type, l.confidence, l.position,
                l.relates_to, l.relates_as, l.relates_confidence]] AS entities"
    };
}

/// The documents of the chunks `$ids`, where they are there, without relations.
pub(super) const READ: &str = concat!("UNWIND $ids AS id MATCH (c:Chunk {id: id}) ", document!());

/// At most `$limit` documents above the id `$after`, ascending. Nodes whose id is no lower-case UUID are somebody else's.
pub(super) const SCAN: &str = concat!(
    "MATCH (c:Chunk) WHERE c.id > $after
        AND c.id =~ '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
    WITH c ORDER BY c.id LIMIT $limit ",
    document!(),
    " ORDER BY id"
);

/// The relations for which chunks `$ids`, which contain both ends, are evidence. Each list of evidence is read once,
/// however many of the chunks are on it; where somebody else put another value in its place, that counts as a list of one.
pub(super) const EVIDENCE: &str = "UNWIND $ids AS id
    MATCH (c:Chunk {id: id})
    WITH c, [(c)-[:CONTAINS_ENTITY]->(e:Entity) | e] AS held
    UNWIND held AS s
    MATCH (s)-[r:RELATES_TO]->(t:Entity) WHERE t IN held
    WITH s, r, t, collect(c.id) AS chunks
    WITH s, r, t, chunks, [] + coalesce(r.evidence, []) AS evidence
    RETURN s.id AS source, t.id AS target, r.type AS type, [id IN chunks WHERE id IN evidence] AS chunks";

/// `$rows` of chunk, entities: the chunk says nothing of these any more, or something else; null stands for all.
pub(super) const UNLINK: &str = "UNWIND $rows AS row
    MATCH (:Chunk {id: row[0]})-[l:CONTAINS_ENTITY]->(e) WHERE row[1] IS NULL OR e.id IN row[1]
    DELETE l";

/// `$ids`: the chunks leave their data sets.
pub(super) const LEAVE: &str = "UNWIND $ids AS id MATCH (:Chunk {id: id})-[b:BELONGS_TO]->(:Dataset) DELETE b";

/// `$rows` of source, target, type, chunks: these are no evidence any more. A relation without evidence goes; so do
/// copies of one, which only somebody else can have made.
pub(super) const UNSAY: &str = "UNWIND $rows AS row
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

/// `$ids`: chunks that are deleted.
pub(super) const DELETE: &str = "UNWIND $ids AS id MATCH (c:Chunk {id: id}) DETACH DELETE c";

/// `$rows` of id, content hash, chunk type, source type, system origin, created, updated, sync version, links; each link of
/// entity, name, type, confidence, positions, and of its relations targets, types, confidences. The properties of chunks,
/// beside which others' stay, and what they say anew.
pub(super) const CHUNKS: &str = "UNWIND $rows AS row
    MATCH (c:Chunk {id: row[0]})
    SET c.content_hash = row[1], c.chunk_type = row[2], c.source_type = row[3], c.system_origin = row[4],
        c.created_at = row[5], c.updated_at = row[6], c.sync_version = row[7]
    WITH c, row[8] AS links
    UNWIND links AS link
    MATCH (e:Entity {id: link[0]})
    CREATE (c)-[:CONTAINS_ENTITY {name: link[1], type: link[2], confidence: link[3], position: link[4],
        relates_to: link[5], relates_as: link[6], relates_confidence: link[7]}]->(e)";

/// `$ids` of projects.
pub(super) const PROJECTS: &str = "UNWIND $ids AS id MERGE (:Project {id: id})";

/// `$ids` of data sets.
pub(super) const DATASETS: &str = "UNWIND $ids AS id MERGE (:Dataset {id: id})";

/// `$rows` of data set, project: a data set is part of one project, the one said last.
pub(super) const PART_OF: &str = "UNWIND $rows AS row
    MATCH (d:Dataset {id: row[0]}) MATCH (p:Project {id: row[1]})
    WHERE NOT EXISTS { (d)-[:PART_OF]->(p) }
    SET d.id = row[0]
    WITH d, p
    OPTIONAL MATCH (d)-[old:PART_OF]->(:Project)
    DELETE old
    WITH DISTINCT d, p
    MERGE (d)-[:PART_OF]->(p)";

/// `$rows` of data set, chunk, ascending: the chunks enter the data sets.
pub(super) const BELONG: &str = "UNWIND $rows AS row
    MATCH (d:Dataset {id: row[0]}) MATCH (c:Chunk {id: row[1]})
    CREATE (c)-[:BELONGS_TO]->(d)";

/// `$rows` of source, target, type, chunks, chunk, version, confidence: evidence that is new, and the newest of what the
/// written chunks say, which holds unless something newer does. A chunk can be evidence already: it stays on the list
/// when somebody else deletes its node.
pub(super) const SAY: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row[0]}) MATCH (t:Entity {id: row[1]})
    MERGE (s)-[r:RELATES_TO {type: row[2]}]->(t)
    FOREACH (new IN CASE WHEN size(row[3]) = 0 THEN [] ELSE [row[3]] END |
        SET r.evidence = [id IN [] + coalesce(r.evidence, []) WHERE NOT id IN new] + new)
    WITH r, row[4] AS chunk, row[5] AS version, row[6] AS confidence
    WHERE r.sync_version IS NULL OR r.sync_version < version OR (r.sync_version = version AND r.said_by <= chunk)
    SET r.confidence = confidence, r.said_by = chunk, r.sync_version = version";

/// `$rows` of entity, chunk, version, name, type, confidence, first, last: the newest of what the written chunks say of an
/// entity, which holds unless something newer does, and when the first of them was made and the last changed. Times
/// compare as text once their `Z` is gone, behind which fewer digits would come after more.
pub(super) const ENTITIES: &str = "UNWIND $rows AS row
    MATCH (e:Entity {id: row[0]})
    SET e.first_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.first_seen), 'Z', '') <= replace(row[6], 'Z', ''), false)
            THEN e.first_seen ELSE row[6] END,
        e.last_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.last_seen), 'Z', '') >= replace(row[7], 'Z', ''), false)
            THEN e.last_seen ELSE row[7] END
    WITH e, row, row[1] AS chunk, row[2] AS version
    WHERE e.sync_version IS NULL OR e.sync_version < version OR (e.sync_version = version AND e.said_by <= chunk)
    SET e.name = row[3], e.type = row[4], e.confidence = row[5], e.said_by = chunk, e.sync_version = version";

/// `$rows` of entity, chunks, firsts, lasts: entities from whom a supporter was taken, with what it may have decided.
/// Where it did, all supporters are looked at.
pub(super) const ENTITIES_AGAIN: &str = "UNWIND $rows AS row
    MATCH (e:Entity {id: row[0]})
    WHERE e.said_by IN row[1] OR e.first_seen IN row[2] OR e.last_seen IN row[3]
    MATCH (e)<-[l:CONTAINS_ENTITY]-(c:Chunk)
    WITH e, max([coalesce(c.sync_version, 0), c.id, l.name, l.type, l.confidence]) AS best,
        min([replace(toStringOrNull(c.created_at), 'Z', ''), c.created_at]) AS first,
        max([coalesce(replace(toStringOrNull(c.updated_at), 'Z', ''), ''), c.updated_at]) AS last
    SET e.name = best[2], e.type = best[3], e.confidence = best[4], e.said_by = best[1], e.sync_version = best[0],
        e.first_seen = first[1], e.last_seen = last[1]";

/// `$rows` of source, target, type, chunks: relations that lost this evidence. Where it had decided, all that is left is
/// looked at.
pub(super) const RELATIONS_AGAIN: &str = "UNWIND $rows AS row
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
    WITH r, max([coalesce(c.sync_version, 0), c.id, l.relates_confidence[i]]) AS best
    SET r.confidence = best[2], r.said_by = best[1], r.sync_version = best[0]";

/// `$ids` of entities that a chunk left: those whom nobody contains any more go.
pub(super) const ORPHANS: &str = "UNWIND $ids AS id
    MATCH (e:Entity {id: id}) WHERE NOT EXISTS { (e)<-[:CONTAINS_ENTITY]-() }
    DETACH DELETE e";

/// How much there is, by the server's own books.
pub(super) const COUNTS: &str = "MATCH (n:Chunk) WITH count(n) AS count RETURN 'chunks' AS name, count
    UNION ALL MATCH (n:Entity) WITH count(n) AS count RETURN 'entities' AS name, count
    UNION ALL MATCH ()-[r:CONTAINS_ENTITY]->() WITH count(r) AS count RETURN 'entity_links' AS name, count
    UNION ALL MATCH ()-[r:RELATES_TO]->() WITH count(r) AS count RETURN 'relations' AS name, count";

/// Fails where the user may not write, or the database takes no writes; leaves nothing.
pub(super) const CHECK: &str = "CREATE (n) DELETE n";
