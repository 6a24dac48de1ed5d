//! Contract of every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_model::{State, SyncVersion};
use uuid::Uuid;

use crate::Fixture;
use crate::history::History;
use crate::scan::{scanned, scanned_after};
use crate::states::{all, changed, delete, rotated, state, states, version, write};

type Port = dyn Projection;

/// Applies writes, and asserts that the store takes every one.
pub(crate) async fn written(store: &Port, writes: &[Write]) {
    for (write, answer) in writes.iter().zip(store.apply(writes).await) {
        assert!(matches!(answer, Applied::Written), "write of {}: the store answered {answer:?}", write.id);
    }
}

/// Asserts that the store holds exactly this state of the chunk.
pub(crate) async fn holds(store: &Port, id: Uuid, wanted: Option<(&State, SyncVersion)>) {
    let seen = store.fetch_documents(&[id]).await.unwrap().remove(0);
    match (seen, wanted) {
        (None, None) => {}
        (Some(seen), Some((state, version))) => {
            assert_eq!((seen.id, seen.version), (id, version));
            let expected = store.expect(state);
            assert_eq!(seen.document.differing(&expected), Vec::<String>::new(), "of {}", state.chunk.content);
        }
        (seen, wanted) => panic!("the store holds {seen:?}, expected version {:?}", wanted.map(|(_, version)| version)),
    }
}

pub async fn a_newer_state_replaces_an_older_one<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, old) = (fixture.port(), states(1).remove(0));
    let new = changed(&old, "the new content");
    written(&*store, &[write(&old, 5)]).await;
    holds(&*store, old.chunk.id, Some((&old, version(5)))).await;
    written(&*store, &[write(&new, 6)]).await;
    holds(&*store, old.chunk.id, Some((&new, version(6)))).await;
}

pub async fn an_older_or_equal_version_changes_nothing<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, held) = (fixture.port(), states(1).remove(0));
    let other = changed(&held, "what must not appear");
    written(&*store, &[write(&held, 5)]).await;
    for late in [write(&other, 5), write(&other, 4), delete(held.chunk.id, 5), delete(held.chunk.id, 1)] {
        let answers = store.apply(&[late]).await;
        assert!(matches!(answers[..], [Applied::Skipped]), "{answers:?}");
    }
    holds(&*store, held.chunk.id, Some((&held, version(5)))).await;
}

pub async fn a_repeated_batch_is_harmless<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(20));
    let mut writes: Vec<_> = states.iter().map(|state| write(state, 9)).collect();
    writes[3] = delete(states[3].chunk.id, 9);
    for _ in 0..3 {
        assert!(store.apply(&writes).await.iter().all(Applied::is_durable));
    }
    for (i, state) in states.iter().enumerate() {
        holds(&*store, state.chunk.id, (i != 3).then_some((&**state, version(9)))).await;
    }
}

pub async fn each_write_of_a_batch_is_answered_for_itself<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(6));
    written(&*store, &states[..5].iter().map(|state| write(state, 5)).collect::<Vec<_>>()).await;
    let newer = changed(&states[0], "the content after the batch");
    let batch = [
        write(&changed(&states[1], "what is as old must not appear"), 5),
        write(&newer, 6),
        delete(states[2].chunk.id, 4),
        delete(states[3].chunk.id, 6),
        write(&changed(&states[4], "what is older must not appear"), 4),
        write(&states[5], 1),
    ];
    let answers = store.apply(&batch).await;
    use Applied::{Skipped, Written};
    assert!(matches!(answers[..], [Skipped, Written, Skipped, Written, Skipped, Written]), "{answers:?}");
    holds(&*store, newer.chunk.id, Some((&newer, version(6)))).await;
    holds(&*store, states[3].chunk.id, None).await;
    holds(&*store, states[5].chunk.id, Some((&states[5], version(1)))).await;
    for untouched in [1, 2, 4] {
        holds(&*store, states[untouched].chunk.id, Some((&states[untouched], version(5)))).await;
    }
}

/// The states of a chunk's history: one has other vectors, one has none, one differs in text only.
fn variants(state: &Arc<State>) -> Vec<Arc<State>> {
    let (mut without, mut other) = (State::clone(state), State::clone(state));
    without.chunk.embeddings = Default::default();
    without.chunk.graph = Default::default();
    other.chunk.summary = Some("the same vectors under other words".into());
    other.chunk.metadata.extra.clear();
    other.embedding_stale = true;
    vec![Arc::clone(state), changed(state, "the content of another state"), without.into(), other.into()]
}

pub async fn any_history_ends_as_a_plain_map_would<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let mut history = History::new(states(12).iter().map(variants).collect());
    for _ in 0..3 {
        let store = fixture.port();
        for _ in 0..8 {
            history.go_on(&*store).await;
            history.is_held_by(&*store).await;
        }
        drop(store);
        fixture.reopen().await;
    }
    history.is_held_by(&*fixture.port()).await;
}

pub async fn a_deleted_chunk_is_gone_and_can_come_again<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, state) = (fixture.port(), states(1).remove(0));
    let id = state.chunk.id;
    written(&*store, &[write(&state, 1)]).await;
    written(&*store, &[delete(id, 2)]).await;
    holds(&*store, id, None).await;
    written(&*store, &[write(&state, 3)]).await;
    holds(&*store, id, Some((&state, version(3)))).await;
}

pub async fn deleting_what_is_not_there_is_durable<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    let answers = store.apply(&[delete(Uuid::max(), 1), delete(Uuid::nil(), 1)]).await;
    assert!(answers.iter().all(Applied::is_durable), "{answers:?}");
    holds(&*store, Uuid::max(), None).await;
}

pub async fn every_state_is_read_back_as_expected<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let states = all();
    let writes: Vec<_> = states.iter().map(|state| write(state, SyncVersion::MAX.get())).collect();
    written(&*fixture.port(), &writes).await;
    for _ in 0..2 {
        for state in &states {
            holds(&*fixture.port(), state.chunk.id, Some((state, SyncVersion::MAX))).await;
        }
        fixture.reopen().await;
    }
}

pub async fn any_state_replaces_any_other<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), all());
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    let others = rotated(&states);
    written(&*store, &others.iter().map(|state| write(state, 2)).collect::<Vec<_>>()).await;
    for state in &others {
        holds(&*store, state.chunk.id, Some((state, version(2)))).await;
    }
}

pub async fn a_page_follows_the_other_without_gap_or_repetition<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    assert!(scanned(&*store).await.is_empty());
    let states = states(53);
    written(&*store, &states.iter().map(|state| write(state, 2)).collect::<Vec<_>>()).await;
    let expected: BTreeMap<Uuid, _> = states.iter().map(|state| (state.chunk.id, store.expect(state))).collect();
    for size in [1, 7, 53, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan(after, size).await.unwrap();
            after = page.documents.last().map(|seen| seen.id).or(after);
            assert!(page.documents.len() <= size && (page.is_last || !page.documents.is_empty()), "pages of {size}");
            assert!(seen.len() <= expected.len(), "pages of {size} do not end");
            seen.extend(page.documents);
            if page.is_last {
                break;
            }
        }
        let ids: Vec<Uuid> = seen.iter().map(|seen| seen.id).collect();
        assert_eq!(ids, expected.keys().copied().collect::<Vec<_>>(), "pages of {size}");
        assert!(
            seen.iter()
                .all(|seen| seen.document.differing(&expected[&seen.id]).is_empty() && seen.version == version(2))
        );
    }
}

pub async fn the_first_and_the_last_id_are_listed_too<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let store = fixture.port();
    // Ids are ordered by their bytes, as unsigned numbers.
    let ids = [0, 1, 0x7f << 120, 0x80 << 120, u128::MAX].map(Uuid::from_u128);
    let under = |id: Uuid| {
        let mut json = crate::states::bare("at the edge");
        json["id"] = id.to_string().into();
        state(&json)
    };
    written(&*store, &ids.map(|id| write(&under(id), 1))).await;
    for (after, rest) in std::iter::once(None).chain(ids.map(Some)).zip((0..=ids.len()).map(|gone| &ids[gone..])) {
        let seen = scanned_after(&*store, after).await;
        assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), rest, "after {after:?}");
    }
}

pub async fn answers_come_in_the_order_asked<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(4));
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    let asked = [states[2].chunk.id, Uuid::nil(), states[0].chunk.id, Uuid::max(), states[3].chunk.id];
    let seen = store.fetch_documents(&asked).await.unwrap();
    let ids: Vec<_> = seen.iter().map(|seen| seen.as_ref().map(|seen| seen.id)).collect();
    assert_eq!(ids, [Some(asked[0]), None, Some(asked[2]), None, Some(asked[4])]);
    assert!(store.fetch_documents(&[]).await.unwrap().is_empty());
    assert!(store.apply(&[]).await.is_empty());
}

pub async fn what_was_answered_survives_a_restart<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let states = states(30);
    written(&*fixture.port(), &states.iter().map(|state| write(state, 3)).collect::<Vec<_>>()).await;
    written(&*fixture.port(), &[delete(states[0].chunk.id, 4)]).await;
    fixture.reopen().await;
    holds(&*fixture.port(), states[0].chunk.id, None).await;
    for state in &states[1..] {
        holds(&*fixture.port(), state.chunk.id, Some((state, version(3)))).await;
    }
    // The guard survives with the state.
    let answers = fixture.port().apply(&[write(&states[1], 3)]).await;
    assert!(matches!(answers[..], [Applied::Skipped]), "{answers:?}");
}

pub async fn preparing_twice_loses_nothing<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, state) = (fixture.port(), states(1).remove(0));
    written(&*store, &[write(&state, 1)]).await;
    store.prepare().await.unwrap();
    store.prepare().await.unwrap();
    store.check().await.unwrap();
    holds(&*store, state.chunk.id, Some((&state, version(1)))).await;
}

pub async fn one_batch_may_hold_a_thousand_writes<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(1000));
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    let ids: Vec<_> = states.iter().map(|state| state.chunk.id).collect();
    assert!(store.fetch_documents(&ids).await.unwrap().iter().all(Option::is_some));
}

pub async fn of_two_writers_at_once_the_newer_state_stays<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(8));
    let newer: Vec<_> = states.iter().map(|state| changed(state, "the newer of the two")).collect();
    for round in 0..6 {
        let mut old: Vec<_> = states.iter().map(|state| write(state, 10 * round + 1)).collect();
        old[5] = delete(states[5].chunk.id, 10 * round + 1);
        let mut new: Vec<_> = newer.iter().map(|state| write(state, 10 * round + 2)).collect();
        // In reverse order, so that a store that locks chunk by chunk would deadlock.
        new.reverse();
        let (first, second) = if round % 2 == 0 { (&old, &new) } else { (&new, &old) };
        let (first, second) = tokio::join!(store.apply(first), store.apply(second));
        assert!(first.iter().chain(&second).all(Applied::is_durable), "{first:?} {second:?}");
        for state in &newer {
            holds(&*store, state.chunk.id, Some((state, version(10 * round + 2)))).await;
        }
    }
}

pub async fn counts_follow_what_is_held<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (store, states) = (fixture.port(), states(10));
    assert_eq!(store.counts().await.unwrap().chunks, 0);
    written(&*store, &states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    written(&*store, &[write(&states[0], 2), delete(states[1].chunk.id, 2)]).await;
    assert_eq!(store.counts().await.unwrap().chunks, 9);
}
