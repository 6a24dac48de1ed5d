//! Reads the direct changes out of a node and its relationships in Neo4j.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::chunk::{Chunk, Entity, Relationship, State};
use crate::document::{GraphDocument, Mention, Relation};

/// Overlays `observed` with the values of `held` that differ from the document of `state`. A different content hash is
/// ignored: it shows that the content differed, but not what it was.
pub(super) fn overlay(observed: &mut Chunk, held: &GraphDocument, state: &State) {
    let ours = GraphDocument::of(state);
    if let Some(kind) = read(&held.chunk_type).filter(|_| held.chunk_type != ours.chunk_type) {
        observed.chunk_type = kind;
    }
    if let Some(kind) = read(&held.source_type).filter(|_| held.source_type != ours.source_type) {
        observed.source.kind = kind;
    }
    if let Some(dataset) = held.dataset.as_ref().filter(|_| held.dataset != ours.dataset).filter(|name| is_text(name)) {
        let organization = &mut observed.organization;
        match Uuid::parse_str(dataset) {
            Ok(id) => organization.dataset_id = Some(id),
            Err(_) => (organization.dataset_id, organization.cognee_dataset) = (None, Some(dataset.clone())),
        }
    }
    entities(observed, &held.entities, &ours.entities);
    relations(observed, &held.relations, &ours.relations);
}

fn entities(observed: &mut Chunk, held: &BTreeMap<String, Mention>, ours: &BTreeMap<String, Mention>) {
    let entities = &mut observed.graph.entities;
    entities.retain(|entity| held.contains_key(&entity.id));
    for (id, mention) in held.iter().filter(|(id, mention)| ours.get(*id) != Some(*mention)) {
        let Some(entity) = entity(id, mention) else { continue };
        entities.retain(|entity| entity.id != *id);
        entities.push(entity);
    }
}

/// The entity of a mention; `None` if no chunk can have such an entity.
fn entity(id: &str, mention: &Mention) -> Option<Entity> {
    let Mention { name, kind, confidence, positions } = mention;
    let kind = read(kind).filter(|_| is_text(id) && is_text(name) && (0.0..=1.0).contains(confidence))?;
    // The connector returns `[u64::MAX]` for positions that it cannot read.
    let source_positions = if *positions == [u64::MAX] { return None } else { positions.clone() };
    Some(Entity { id: id.to_owned(), kind, name: name.clone(), confidence: *confidence, source_positions })
}

fn relations(observed: &mut Chunk, held: &[Relation], ours: &[Relation]) {
    let key = |r: &Relation| (r.kind.clone(), r.source.clone(), r.target.clone());
    let there: BTreeMap<_, &Relation> = held.iter().map(|relation| (key(relation), relation)).collect();
    let relationships = &mut observed.graph.relationships;
    relationships.retain(|r| {
        let (source, target) = (r.source_entity_id.clone(), r.target_entity_id.clone());
        there.contains_key(&(r.kind.as_str().to_owned(), source, target))
    });
    for relation in held.iter().filter(|relation| !ours.contains(relation)) {
        let ends = is_text(&relation.source) && is_text(&relation.target);
        let Some(kind) = read(&relation.kind).filter(|_| ends && (0.0..=1.0).contains(&relation.confidence)) else {
            continue;
        };
        let same = |r: &&mut Relationship| {
            (r.kind, &r.source_entity_id, &r.target_entity_id) == (kind, &relation.source, &relation.target)
        };
        match relationships.iter_mut().find(same) {
            Some(relationship) => relationship.confidence = relation.confidence,
            None => relationships.push(Relationship {
                source_entity_id: relation.source.clone(),
                target_entity_id: relation.target.clone(),
                kind,
                confidence: relation.confidence,
                metadata: None,
            }),
        }
    }
}

fn read<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

/// Whether the text is not empty and PostgreSQL can store it.
fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}
