//! Contract of a store with typed vectors, beyond that of every store.

use std::sync::Arc;

use chunk_sync_engine::ports::{Applied, FaultClass, Projection, Write};
use chunk_sync_model::State;

use crate::Fixture;
use crate::states::{changed, delete, states, version, write};
use crate::store::{holds, written};

type Port = dyn Projection;

pub async fn a_vector_of_the_wrong_dimension_fails_alone<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(5));
    let mut bad = State::clone(&states[2]);
    bad.chunk.embeddings.dense[0].vector = vec![1.0; 3].into();
    let mut writes: Vec<_> = states.iter().map(|state| write(state, 1)).collect();
    writes[2].state = Some(Arc::new(bad));
    for (i, answer) in store.apply(&writes).await.into_iter().enumerate() {
        match answer {
            Applied::Failed(fault) if i == 2 => {
                assert_eq!(fault.class, FaultClass::Rejected, "{fault}");
                assert!(fault.message.contains("768"), "{fault} does not state the configured size");
            }
            answer => assert!(matches!(answer, Applied::Written) && i != 2, "{i}: {answer:?}"),
        }
    }
    for (i, state) in states.iter().enumerate() {
        holds(&*store, state.chunk.id, (i != 2).then_some((&**state, version(1)))).await;
    }
}

pub async fn a_write_without_new_vectors_replaces_all_but_them<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, mut held) = (fixture.port(), State::clone(&states(1)[0]));
    held.chunk.summary = Some("a key that goes".into());
    held.chunk.source.path = Some("one/more".into());
    held.chunk.metadata.extra.insert("removed".into(), 1.into());
    let held = Arc::new(held);
    written(&*store, &[write(&held, 3)]).await;
    let mut next = State::clone(&held);
    (next.chunk.summary, next.chunk.source.path) = (None, None);
    next.chunk.metadata.extra.clear();
    next.chunk.metadata.extra.insert("added".into(), 1.into());
    next.embedding_stale = true;
    let next = Arc::new(next);
    let mut only_payload = write(&next, 4);
    only_payload.vectors_since = version(2);
    written(&*store, &[only_payload]).await;
    holds(&*store, held.chunk.id, Some((&next, version(4)))).await;
    // A stale mark that no longer applies is removed as well.
    let mut fresh = State::clone(&next);
    fresh.embedding_stale = false;
    let fresh = Arc::new(fresh);
    let mut only_payload = write(&fresh, 5);
    only_payload.vectors_since = version(2);
    written(&*store, &[only_payload]).await;
    holds(&*store, held.chunk.id, Some((&fresh, version(5)))).await;
}

pub async fn vectors_are_written_where_older_ones_are_held<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, held) = (fixture.port(), states(1).remove(0));
    written(&*store, &[write(&held, 3)]).await;
    // The vectors changed at 5, which this store missed; 6 changed the payload only.
    let next = changed(&held, "a state after one that was missed");
    let mut late = write(&next, 6);
    late.vectors_since = version(5);
    written(&*store, &[late.clone()]).await;
    holds(&*store, held.chunk.id, Some((&next, version(6)))).await;
    // Also if nothing is held at all.
    let other = states(2).remove(1);
    let mut first = write(&other, 6);
    first.vectors_since = version(1);
    written(&*store, &[first]).await;
    holds(&*store, other.chunk.id, Some((&other, version(6)))).await;
}

pub async fn a_vector_that_is_gone_is_gone<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, held) = (fixture.port(), states(1).remove(0));
    written(&*store, &[write(&held, 1)]).await;
    let mut without = State::clone(&held);
    without.chunk.embeddings = Default::default();
    let without = Arc::new(without);
    written(&*store, &[write(&without, 2)]).await;
    holds(&*store, held.chunk.id, Some((&without, version(2)))).await;
    // One model replaces another.
    written(&*store, &[write(&held, 3)]).await;
    let mut other = State::clone(&held);
    other.chunk.embeddings.dense[0].model = "coderank".into();
    other.chunk.embeddings.sparse = None;
    let other = Arc::new(other);
    written(&*store, &[write(&other, 4)]).await;
    holds(&*store, held.chunk.id, Some((&other, version(4)))).await;
}

/// A store that groups the writes of a batch by kind still answers each of them separately.
pub async fn one_batch_may_hold_writes_of_every_kind<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(12));
    written(&*store, &states[..8].iter().map(|state| write(state, 5)).collect::<Vec<_>>()).await;
    let (mut writes, mut wanted) = (Vec::new(), Vec::new());
    for (i, state) in states.iter().enumerate() {
        let mut payload = State::clone(state);
        payload.chunk.summary = Some("other words for the same vector".into());
        let (payload, other) = (Arc::new(payload), changed(state, "the content with another vector"));
        let held = (i < 8).then(|| (Arc::clone(state), version(5)));
        let (write, after) = match i % 4 {
            0 => (delete(state.chunk.id, 6), None),
            1 => {
                let mut bad = State::clone(state);
                bad.chunk.embeddings.dense[0].vector = vec![1.0; 769].into();
                (write(&bad.into(), 6), held)
            }
            2 => (Write { vectors_since: version(5), ..write(&payload, 6) }, Some((payload, version(6)))),
            _ => (write(&other, 6), Some((other, version(6)))),
        };
        writes.push(write);
        wanted.push(after);
    }
    for (i, answer) in store.apply(&writes).await.into_iter().enumerate() {
        assert_eq!(answer.is_durable(), i % 4 != 1, "{i}: {answer:?}");
    }
    for (state, wanted) in states.iter().zip(&wanted) {
        holds(&*store, state.chunk.id, wanted.as_ref().map(|(state, version)| (&**state, *version))).await;
    }
}
