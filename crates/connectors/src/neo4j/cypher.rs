//! Every statement on the graph's data. Values come as parameters only; labels, types and property names stand here.
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

/// `$rows` of `{chunk, entities}`: the chunk says nothing of these entities any more, or something else.
pub(super) const UNLINK: &str = "UNWIND $rows AS row
    MATCH (:Chunk {id: row.chunk})-[l:CONTAINS_ENTITY]->(e) WHERE e.id IN row.entities
    DELETE l";

/// `$ids`: the chunks leave their data sets.
pub(super) const LEAVE: &str = "UNWIND $ids AS id MATCH (:Chunk {id: id})-[b:BELONGS_TO]->(:Dataset) DELETE b";

/// `$rows` of `{source, target, type, chunks}`: these chunks are no evidence any more. A relation without evidence goes;
/// so do copies of one, which only somebody else can have made.
pub(super) const UNSAY: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row.source}) MATCH (t:Entity {id: row.target})
    WITH row, s, t
    MATCH (s)-[r:RELATES_TO {type: row.type}]->(t)
    WITH row, collect(r) AS copies
    FOREACH (copy IN tail(copies) | DELETE copy)
    WITH row, head(copies) AS r
    WITH r, [id IN [] + coalesce(r.evidence, []) WHERE NOT id IN row.chunks] AS left
    SET r.evidence = left
    WITH r, left WHERE size(left) = 0
    DELETE r";

/// `$ids`: chunks that are deleted.
pub(super) const DELETE: &str = "UNWIND $ids AS id MATCH (c:Chunk {id: id}) DETACH DELETE c";

/// `$rows` of `{id, node}`: the properties of chunks. Others' properties stay.
pub(super) const CHUNKS: &str = "UNWIND $rows AS row MATCH (c:Chunk {id: row.id}) SET c += row.node";

/// `$ids` of projects.
pub(super) const PROJECTS: &str = "UNWIND $ids AS id MERGE (:Project {id: id})";

/// `$ids` of data sets.
pub(super) const DATASETS: &str = "UNWIND $ids AS id MERGE (:Dataset {id: id})";

/// `$rows` of `{dataset, project}`: a data set is part of one project, the one said last.
pub(super) const PART_OF: &str = "UNWIND $rows AS row
    MATCH (d:Dataset {id: row.dataset}) MATCH (p:Project {id: row.project})
    WHERE NOT EXISTS { (d)-[:PART_OF]->(p) }
    SET d.id = row.dataset
    WITH d, p
    OPTIONAL MATCH (d)-[old:PART_OF]->(:Project)
    DELETE old
    WITH DISTINCT d, p
    MERGE (d)-[:PART_OF]->(p)";

/// `$rows` of `{chunk, dataset}`, by data set.
pub(super) const BELONG: &str = "UNWIND $rows AS row
    MATCH (c:Chunk {id: row.chunk}) MATCH (d:Dataset {id: row.dataset})
    CREATE (c)-[:BELONGS_TO]->(d)";

/// `$rows` of `{chunk, entity, said}`: what a chunk says of an entity.
pub(super) const LINK: &str = "UNWIND $rows AS row
    MATCH (c:Chunk {id: row.chunk}) MATCH (e:Entity {id: row.entity})
    CREATE (c)-[l:CONTAINS_ENTITY]->(e)
    SET l = row.said";

/// `$rows` of `{source, target, type, chunks, chunk, version, confidence}`: evidence that is new, and the newest of what
/// the written chunks say, which holds unless something newer does. A chunk can be evidence already: it stays on the
/// list when somebody else deletes its node.
pub(super) const SAY: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row.source}) MATCH (t:Entity {id: row.target})
    MERGE (s)-[r:RELATES_TO {type: row.type}]->(t)
    FOREACH (new IN CASE WHEN size(row.chunks) = 0 THEN [] ELSE [row.chunks] END |
        SET r.evidence = [id IN [] + coalesce(r.evidence, []) WHERE NOT id IN new] + new)
    WITH row, r
    WHERE r.sync_version IS NULL OR r.sync_version < row.version
        OR (r.sync_version = row.version AND r.said_by <= row.chunk)
    SET r.confidence = row.confidence, r.said_by = row.chunk, r.sync_version = row.version";

/// `$rows` of `{id, chunk, version, name, type, confidence, first, last}`: the newest of what the written chunks say of
/// an entity, which holds unless something newer does, and when the first and the last of them were made and changed.
/// Times compare as text once their `Z` is gone, behind which fewer digits would come after more.
pub(super) const ENTITIES: &str = "UNWIND $rows AS row
    MATCH (e:Entity {id: row.id})
    SET e.first_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.first_seen), 'Z', '') <= replace(row.first, 'Z', ''), false)
            THEN e.first_seen ELSE row.first END,
        e.last_seen = CASE
            WHEN coalesce(replace(toStringOrNull(e.last_seen), 'Z', '') >= replace(row.last, 'Z', ''), false)
            THEN e.last_seen ELSE row.last END
    WITH row, e
    WHERE e.sync_version IS NULL OR e.sync_version < row.version
        OR (e.sync_version = row.version AND e.said_by <= row.chunk)
    SET e.name = row.name, e.type = row.type, e.confidence = row.confidence,
        e.said_by = row.chunk, e.sync_version = row.version";

/// `$rows` of `{id, left, firsts, lasts}`: entities from whom a supporter was taken, with what it may have decided. Where
/// it did, all supporters are looked at.
pub(super) const ENTITIES_AGAIN: &str = "UNWIND $rows AS row
    MATCH (e:Entity {id: row.id})
    WHERE e.said_by IN row.left OR e.first_seen IN row.firsts OR e.last_seen IN row.lasts
    MATCH (e)<-[l:CONTAINS_ENTITY]-(c:Chunk)
    WITH e, max([coalesce(c.sync_version, 0), c.id, l.name, l.type, l.confidence]) AS best,
        min([replace(toStringOrNull(c.created_at), 'Z', ''), c.created_at]) AS first,
        max([coalesce(replace(toStringOrNull(c.updated_at), 'Z', ''), ''), c.updated_at]) AS last
    SET e.name = best[2], e.type = best[3], e.confidence = best[4], e.said_by = best[1], e.sync_version = best[0],
        e.first_seen = first[1], e.last_seen = last[1]";

/// `$rows` of `{source, target, type, left}`: relations that lost evidence. Where it had decided, all of it is looked at.
pub(super) const RELATIONS_AGAIN: &str = "UNWIND $rows AS row
    MATCH (s:Entity {id: row.source}) MATCH (t:Entity {id: row.target})
    WITH row, s, t
    MATCH (s)-[r:RELATES_TO {type: row.type}]->(t)
    WHERE r.said_by IN row.left
    WITH row, s, r
    UNWIND r.evidence AS id
    MATCH (c:Chunk {id: id})
    WITH row, s, r, c
    MATCH (c)-[l:CONTAINS_ENTITY]->(s)
    UNWIND range(0, size(l.relates_to) - 1) AS i
    WITH row, r, c, l, i WHERE l.relates_to[i] = row.target AND l.relates_as[i] = row.type
    WITH r, max([coalesce(c.sync_version, 0), c.id, l.relates_confidence[i]]) AS best
    SET r.confidence = best[2], r.said_by = best[1], r.sync_version = best[0]";

/// `$ids` of entities that a chunk left: those whom nobody contains any more go.
pub(super) const ORPHANS: &str = "UNWIND $ids AS id
    MATCH (e:Entity {id: id}) WHERE NOT EXISTS { (e)<-[:CONTAINS_ENTITY]-() }
    DETACH DELETE e";

/// How much there is, by the server's own books.
pub(super) const COUNTS: &str = "MATCH (n:Chunk) RETURN 'chunks' AS name, count(n) AS count
    UNION ALL MATCH (n:Entity) RETURN 'entities' AS name, count(n) AS count
    UNION ALL MATCH ()-[r:CONTAINS_ENTITY]->() RETURN 'entity_links' AS name, count(r) AS count
    UNION ALL MATCH ()-[r:RELATES_TO]->() RETURN 'relations' AS name, count(r) AS count";

/// Fails where the user may not write, or the database takes no writes; leaves nothing.
pub(super) const CHECK: &str = "CREATE (n) DELETE n";
