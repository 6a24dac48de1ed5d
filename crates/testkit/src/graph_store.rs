//! What a graph keeps beside what every store does.

use std::collections::BTreeSet;
use std::sync::Arc;

use chunk_sync_engine::ports::Store;
use chunk_sync_model::State;
use serde_json::json;

use crate::Fixture;
use crate::states::{bare, delete, entity, relationship, state, states, version, write};
use crate::store::{holds, written};

type Port = dyn Store;

/// Entities, links and relations by a plain count.
fn counted(states: &[Arc<State>]) -> [u64; 3] {
    let graphs = || states.iter().map(|state| &state.chunk.graph);
    let entities: BTreeSet<_> = graphs().flat_map(|graph| &graph.entities).map(|entity| &entity.id).collect();
    let links: usize = graphs().map(|graph| graph.entities.len()).sum();
    let relations: BTreeSet<_> = graphs()
        .flat_map(|graph| &graph.relationships)
        .map(|r| (&r.source_entity_id, &r.target_entity_id, r.kind.as_str()))
        .collect();
    [entities.len() as u64, links as u64, relations.len() as u64]
}

async fn counts(store: &Port) -> [u64; 3] {
    let others = store.counts().await.unwrap().others;
    ["entities", "entity_links", "relations"].map(|name| others[name])
}

/// A chunk that names these entities, and says that each calls the next.
fn naming(name: &str, entities: &[&str]) -> Arc<State> {
    let mut json = bare(name);
    let calls: Vec<_> = entities.windows(2).map(|pair| relationship(pair[0], pair[1], "calls")).collect();
    let entities: Vec<_> = entities.iter().map(|id| entity(id, name)).collect();
    json["graph"] = json!({ "entities": entities, "relationships": calls });
    state(&json)
}

pub async fn it_counts_what_all_chunks_say_together<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(120));
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    assert_eq!(counts(&*store).await, counted(&states));
}

pub async fn what_only_a_chunk_supported_goes_with_it<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    let (long, short) = (naming("shrinks", &["a", "b", "c", "d"]), naming("shrinks", &["a", "b"]));
    written(&*store, &[write(&long, 1)]).await;
    assert_eq!(counts(&*store).await, [4, 4, 3]);
    written(&*store, &[write(&short, 2)]).await;
    assert_eq!(counts(&*store).await, [2, 2, 1]);
    holds(&*store, short.chunk.id, Some((&short, version(2)))).await;
    written(&*store, &[delete(short.chunk.id, 3)]).await;
    assert_eq!(counts(&*store).await, [0, 0, 0]);
}

pub async fn what_others_support_stays<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    let (one, two) = (naming("one", &["a", "b", "c"]), naming("two", &["b", "c", "d"]));
    written(&*store, &[write(&one, 1), write(&two, 2)]).await;
    assert_eq!(counts(&*store).await, [4, 6, 3]);
    written(&*store, &[delete(two.chunk.id, 3)]).await;
    assert_eq!(counts(&*store).await, [3, 3, 2]);
    // What the other said of b and c never was its affair.
    holds(&*store, one.chunk.id, Some((&one, version(1)))).await;
}

pub async fn an_empty_graph_has_nothing<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(40));
    assert_eq!(counts(&*store).await, [0, 0, 0]);
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    written(&*store, &states.iter().map(|state| delete(state.chunk.id, 2)).collect::<Vec<_>>()).await;
    assert_eq!((store.counts().await.unwrap().chunks, counts(&*store).await), (0, [0, 0, 0]));
}
