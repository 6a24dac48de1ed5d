//! Contract of a graph store, beyond that of every store.

use std::collections::BTreeSet;
use std::sync::Arc;

use chunk_sync_engine::ports::{Projection, Write};
use chunk_sync_model::State;
use serde_json::json;

use crate::Fixture;
use crate::history::History;
use crate::states::{bare, delete, entity, relationship, state, states, version, write};
use crate::store::{holds, written};

type Port = dyn Projection;

/// How often eight concurrent writers may conflict with each other.
const ATTEMPTS: usize = 10;

/// Number of entities, links and relations, by counting them one by one.
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

/// A chunk that names these entities, with a relationship `calls` from each to the next.
fn naming(name: &str, entities: &[&str]) -> Arc<State> {
    let mut json = bare(name);
    let calls: Vec<_> = entities.windows(2).map(|pair| relationship(pair[0], pair[1], "calls")).collect();
    let entities: Vec<_> = entities.iter().map(|id| entity(id, name)).collect();
    json["graph"] = json!({ "entities": entities, "relationships": calls });
    state(&json)
}

pub async fn entities_of_all_chunks_are_counted_together<F: Fixture<Port = Port>>() {
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
    // The other chunk's relationship of b and c does not affect this one.
    holds(&*store, one.chunk.id, Some((&one, version(1)))).await;
}

/// The chunks that name an entity share one name of it; what each chunk states about it remains its own.
pub async fn each_chunk_keeps_its_own_values_of_a_shared_entity<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    let said = |name: &str, kind: &str, confidence: f64, positions: &[u64]| {
        let mut json = bare(name);
        let (mut a, mut calls) = (entity("a", name), relationship("a", "b", "calls"));
        (a["type"], a["confidence"], a["source_positions"]) = (kind.into(), confidence.into(), positions.into());
        calls["confidence"] = confidence.into();
        json["graph"] = json!({ "entities": [a, entity("b", name)], "relationships": [calls] });
        state(&json)
    };
    let low = said("low", "class", 0.25, &[]);
    let high = said("high", "function", 0.75, &[4]);
    let middle = said("middle", "person", 1.0, &[9, 1, 9]);
    written(&*store, &[write(&low, 5)]).await;
    written(&*store, &[write(&high, 9)]).await;
    written(&*store, &[write(&middle, 7)]).await;
    for (state, held) in [(&low, 5), (&high, 9), (&middle, 7)] {
        holds(&*store, state.chunk.id, Some((state, version(held)))).await;
    }
    assert_eq!(counts(&*store).await, [2, 6, 1]);
    // The newest supporter drops the entity, then another is deleted.
    let silent = naming("high", &["b"]);
    written(&*store, &[write(&silent, 10)]).await;
    written(&*store, &[delete(middle.chunk.id, 11)]).await;
    holds(&*store, silent.chunk.id, Some((&silent, version(10)))).await;
    holds(&*store, low.chunk.id, Some((&low, version(5)))).await;
    assert_eq!(counts(&*store).await, [2, 3, 1]);
}

pub async fn counts_are_plain_counts_after_any_history<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    // Few entities, so that every chunk shares some with every other.
    let variants: [&[&str]; 6] = [&["a", "b", "c"], &["c", "b", "a"], &["b"], &[], &["a", "c", "d", "e"], &["e", "a"]];
    let states = |name: &str| variants.map(|entities| naming(name, entities)).into();
    let mut history = History::new(["one", "two", "three", "four", "five"].map(states).into());
    for _ in 0..25 {
        history.go_on(&*store).await;
        history.is_held_by(&*store).await;
        assert_eq!(counts(&*store).await, counted(&history.states()));
    }
}

pub async fn chunks_that_share_entities_are_written_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    // Every chunk shares entities with every other, half of them in reverse order.
    let named = |i: usize, first: &[&str], second: &[&str]| {
        naming(&format!("{i}"), if i.is_multiple_of(2) { first } else { second })
    };
    let first: Vec<_> = (0..48).map(|i| named(i, &["a", "b", "c", "d"], &["d", "c", "b", "a"])).collect();
    at_once(&store, first.chunks(6).map(|chunks| chunks.iter().map(|state| write(state, 1)).collect())).await;
    assert_eq!(counts(&*store).await, counted(&first));
    // Some are deleted and others shrink at the same time.
    let second: Vec<_> = (0..48).map(|i| named(i, &["b", "a"], &[])).collect();
    let change = |(i, state): (usize, &Arc<State>)| {
        if i < 24 { delete(state.chunk.id, 2) } else { write(state, 2) }
    };
    let changes: Vec<_> = second.iter().enumerate().map(change).collect();
    at_once(&store, changes.chunks(6).map(<[_]>::to_vec)).await;
    assert_eq!(counts(&*store).await, counted(&second[24..]));
    for state in &second[24..] {
        holds(&*store, state.chunk.id, Some((state, version(2)))).await;
    }
}

/// Applies the batches concurrently, and repeats the writes that failed because of another.
async fn at_once(store: &Arc<Port>, batches: impl Iterator<Item = Vec<Write>>) {
    let apply = |mut batch: Vec<Write>| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut last = Vec::new();
            for _ in 0..ATTEMPTS {
                last = store.apply(&batch).await;
                let mut answers = last.iter();
                batch.retain(|_| answers.next().is_some_and(|answer| !answer.is_durable()));
                if batch.is_empty() {
                    return;
                }
            }
            panic!("after {ATTEMPTS} attempts: {last:?}");
        })
    };
    for applied in batches.map(apply).collect::<Vec<_>>() {
        applied.await.unwrap();
    }
}

pub async fn an_empty_graph_has_nothing<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(40));
    assert_eq!(counts(&*store).await, [0, 0, 0]);
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    written(&*store, &states.iter().map(|state| delete(state.chunk.id, 2)).collect::<Vec<_>>()).await;
    assert_eq!((store.counts().await.unwrap().chunks, counts(&*store).await), (0, [0, 0, 0]));
}
