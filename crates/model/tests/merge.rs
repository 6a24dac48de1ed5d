//! Claims about merge: what each writer's changes come to, in whatever order they arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_model::merge::{Change, Effect, Merged, Strategies, merge};
use chunk_sync_model::{Chunk, EventType, PartPattern, Record, State, Time, Writer};
use proptest::prelude::*;
use uuid::Uuid;

/// A chunk under merge: what the system of record holds of it.
#[derive(Clone, Default)]
struct Held {
    record: Option<Record>,
    state: Option<Arc<State>>,
}

impl Held {
    /// Merges, and sends the record through its encoding, as every merge does in life.
    fn take(&mut self, change: &Change<'_>) -> Merged {
        let merged = merge(self.record.take(), self.state.take(), change, &Strategies::default());
        self.record = Some(Record::decode(&merged.record.encode().unwrap()).unwrap());
        self.state = merged.state.clone();
        merged
    }

    fn chunk(&self) -> &Chunk {
        &self.state.as_ref().expect("the chunk is there").chunk
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.chunk().metadata.extra.get(key).map(|value| value.as_str().unwrap().to_owned())
    }
}

fn chunk(origin: &str, content: &str, metadata: &[(&str, &str)]) -> Chunk {
    let mut json = serde_json::json!({
        "id": "00000000-0000-0000-0000-000000000001", "system_origin": origin, "content": content, "chunk_type": "text",
        "source": {"type": "api"}, "location": {"start_char": 0, "end_char": 10, "chunk_index": 0}, "organization": {},
        "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"},
    });
    for (key, value) in metadata {
        json["metadata"][*key] = serde_json::Value::from(*value);
    }
    serde_json::from_value(json).unwrap()
}

fn view(writer: Writer, micros: i64, kind: EventType, view: &Chunk) -> Change<'_> {
    let event = Uuid::from_u128(micros.unsigned_abs().into());
    Change { writer, time: Time::from_micros(micros), event, kind, view: Some(view), unchanged: &[], set: &[] }
}

fn update(writer: Writer, micros: i64, chunk: &Chunk) -> Change<'_> {
    view(writer, micros, EventType::Update, chunk)
}

fn delete<'a>(writer: Writer, micros: i64) -> Change<'a> {
    let event = Uuid::from_u128(micros.unsigned_abs().into());
    Change {
        writer,
        time: Time::from_micros(micros),
        event,
        kind: EventType::Delete,
        view: None,
        unchanged: &[],
        set: &[],
    }
}

const A: Writer = Writer::Claude;
const B: Writer = Writer::Cognee;

#[test]
fn neither_writer_wipes_out_what_the_other_added() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "fn main() {}", &[("language", "rust")])));
    held.take(&update(B, 2, &chunk("cognee", "fn main() {}", &[("topic", "entry")])));
    held.take(&update(A, 3, &chunk("claude", "fn main() { go() }", &[("language", "rust")])));
    assert_eq!(held.chunk().content, "fn main() { go() }");
    assert_eq!(held.metadata("topic").as_deref(), Some("entry"));
    assert_eq!(held.metadata("language").as_deref(), Some("rust"));
    assert_eq!(held.chunk().system_origin.as_str(), "hybrid");
}

#[test]
fn writing_back_what_was_read_changes_only_the_edited_field() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one"), ("owner", "ann")])));
    let mut read = held.chunk().clone();
    held.take(&update(A, 2, &chunk("claude", "the content", &[("title", "two"), ("owner", "ann")])));
    read.metadata.extra.insert("owner".into(), "bob".into());
    held.take(&update(B, 3, &read));
    assert_eq!(held.metadata("title").as_deref(), Some("two"), "an older value that came back is an echo");
    assert_eq!(held.metadata("owner").as_deref(), Some("bob"));
}

#[test]
fn a_revert_takes_effect_where_it_is_set_on_purpose() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "two")])));
    let back = chunk("cognee", "the content", &[("title", "one")]);
    held.take(&update(B, 3, &back));
    assert_eq!(held.metadata("title").as_deref(), Some("two"));
    let set: Vec<PartPattern> = vec!["metadata.title".parse().unwrap()];
    held.take(&Change { set: &set, ..update(B, 4, &back) });
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
}

#[test]
fn leaving_out_removes_what_the_writer_had_set_and_nothing_else() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("mine", "a"), ("both", "a")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("theirs", "b"), ("both", "a")])));
    held.take(&update(B, 3, &chunk("cognee", "the content", &[])));
    assert_eq!(held.metadata("mine").as_deref(), Some("a"));
    assert_eq!(held.metadata("theirs"), None);
    assert_eq!(held.metadata("both").as_deref(), Some("a"), "it was an echo: the writer had never set it");
}

#[test]
fn a_part_named_unchanged_is_neither_changed_nor_removed() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    let unchanged: Vec<PartPattern> = vec!["content".parse().unwrap(), "metadata".parse().unwrap()];
    held.take(&Change { unchanged: &unchanged, ..update(A, 2, &chunk("claude", "", &[])) });
    assert_eq!(held.chunk().content, "the content");
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
}

#[test]
fn an_update_by_a_writer_that_knew_the_chunk_does_not_undo_anothers_delete() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("topic", "x")])));
    held.take(&delete(A, 3));
    let merged = held.take(&update(B, 4, &chunk("cognee", "the content", &[("topic", "y")])));
    assert!(held.state.is_none());
    assert_eq!(merged.effect, Effect::Remembered);
    assert!(!merged.conflicts.is_empty(), "what is kept under the tombstone is a recorded conflict");
    held.take(&view(B, 5, EventType::Create, &chunk("cognee", "the content", &[("topic", "y")])));
    assert_eq!(held.metadata("topic").as_deref(), Some("y"));
    assert_eq!(held.chunk().content, "the content");
}

#[test]
fn a_late_update_does_not_bring_a_deleted_chunk_back() {
    let mut held = Held::default();
    let first = chunk("claude", "the content", &[]);
    held.take(&update(A, 1, &first));
    held.take(&delete(A, 3));
    let merged = held.take(&update(A, 2, &first));
    assert_eq!(merged.effect, Effect::Nothing);
    assert!(held.state.is_none());
    held.take(&update(A, 4, &chunk("claude", "made anew!", &[])));
    assert_eq!(held.chunk().content, "made anew!");
}

#[test]
fn the_same_event_twice_is_once_and_two_events_of_one_microsecond_are_two() {
    let mut held = Held::default();
    let (one, two) = (chunk("claude", "the content", &[("n", "1")]), chunk("claude", "the content", &[("n", "2")]));
    held.take(&update(A, 1, &one));
    assert_eq!(held.take(&update(A, 1, &one)).effect, Effect::Nothing);
    let second = Change { event: Uuid::from_u128(99), ..update(A, 1, &two) };
    assert_eq!(held.take(&second).effect, Effect::Shown);
    assert_eq!(held.take(&update(A, 1, &one)).effect, Effect::Nothing);
    assert_eq!(held.metadata("n").as_deref(), Some("2"));
}

#[test]
fn both_embeddings_of_a_conflict_are_kept_and_the_one_made_for_the_content_comes_first() {
    let with = |origin: &str, content: &str, number: f32| {
        let mut chunk = chunk(origin, content, &[]);
        let dense = serde_json::json!({"model": "gte", "vector": [number, 0.5], "timestamp": "2026-01-01T00:00:00Z"});
        chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
        chunk
    };
    let mut held = Held::default();
    held.take(&update(A, 1, &with("claude", "the content", 1.0)));
    held.take(&update(B, 2, &with("cognee", "the content", 2.0)));
    let shown = held.chunk().embeddings.clone();
    assert_eq!(shown.dense[0].vector[0], 2.0);
    assert_eq!(shown.dense_alternative.unwrap().vector[0], 1.0);
    assert_eq!(
        (shown.primary_source.as_deref(), shown.alternative_source.as_deref()),
        (Some("cognee"), Some("claude"))
    );
    held.take(&update(A, 3, &with("claude", "new content", 3.0)));
    assert_eq!(held.chunk().embeddings.dense[0].vector[0], 3.0);
    assert!(!held.state.as_ref().unwrap().embedding_stale);
    held.take(&update(B, 4, &with("cognee", "newer content", 2.0)));
    assert!(held.state.as_ref().unwrap().embedding_stale, "neither was made for the content that shows");
}

#[test]
fn a_row_changed_directly_prevails_also_where_it_goes_back_to_an_older_value() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "two")])));
    let mut row = held.chunk().clone();
    row.metadata.extra.insert("title".into(), "one".into());
    held.take(&update(Writer::Postgres, 3, &row));
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
    row.metadata.extra.remove("title");
    held.take(&update(Writer::Postgres, 4, &row));
    assert_eq!(held.metadata("title"), None);
    let same = held.chunk().clone();
    assert_ne!(held.take(&update(Writer::Postgres, 5, &same)).effect, Effect::Shown, "our own write came back");
}

/// What a writer of the generated histories does.
#[derive(Clone, Debug)]
enum Act {
    View {
        kind: EventType,
        content: u8,
        keys: BTreeMap<u8, u8>,
        entities: Vec<u8>,
        linked: bool,
        dense: Option<u8>,
        set: bool,
    },
    Delete,
}

fn act() -> impl Strategy<Value = Act> {
    let keys = proptest::collection::btree_map(0..3_u8, 0..3_u8, 0..3);
    let entities = proptest::sample::subsequence(vec![0_u8, 1, 2], 0..=3);
    let kind = prop_oneof![4 => Just(EventType::Update), 1 => Just(EventType::Create)];
    let some =
        (kind, 0..3_u8, keys, entities, any::<bool>(), proptest::option::of(0..3_u8), proptest::bool::weighted(0.1));
    prop_oneof![
        6 => some.prop_map(|(kind, content, keys, entities, linked, dense, set)| {
            Act::View { kind, content, keys, entities, linked, dense, set }
        }),
        1 => Just(Act::Delete),
    ]
}

/// An event of a generated history, with all it needs to be merged.
#[derive(Clone, Debug)]
struct Step {
    writer: Writer,
    micros: i64,
    event: Uuid,
    kind: EventType,
    chunk: Option<Chunk>,
    set: Vec<PartPattern>,
}

impl Step {
    fn change(&self) -> Change<'_> {
        Change {
            writer: self.writer,
            time: Time::from_micros(self.micros),
            event: self.event,
            kind: self.kind,
            view: self.chunk.as_ref(),
            unchanged: &[],
            set: &self.set,
        }
    }
}

fn build(act: &Act) -> (EventType, Option<Chunk>, Vec<PartPattern>) {
    let Act::View { kind, content, keys, entities, linked, dense, set } = act else {
        return (EventType::Delete, None, Vec::new());
    };
    let mut chunk = chunk("claude", &format!("content {content}"), &[]);
    chunk.metadata.extra = keys.iter().map(|(k, v)| (format!("k{k}"), format!("v{v}").into())).collect();
    let entity = |i: &u8| serde_json::json!({"id": format!("e{i}"), "type": "concept", "name": "e", "confidence": 1.0});
    chunk.graph.entities = entities.iter().map(|i| serde_json::from_value(entity(i)).unwrap()).collect();
    if let ([from, .., to], true) = (entities.as_slice(), *linked) {
        let tie = serde_json::json!({"source_entity_id": format!("e{from}"), "target_entity_id": format!("e{to}"), "type": "calls", "confidence": 1.0});
        chunk.graph.relationships = vec![serde_json::from_value(tie).unwrap()];
    }
    if let Some(number) = dense {
        let dense = serde_json::json!({"model": "gte", "vector": [number], "timestamp": "2026-01-01T00:00:00Z"});
        chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
    }
    let set = if *set { vec!["metadata.k0".parse().unwrap(), "content".parse().unwrap()] } else { Vec::new() };
    (*kind, Some(chunk), set)
}

/// Histories of three writers: each in its own order of time, with ties within and between them.
fn histories() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let acts = proptest::collection::vec((act(), 0..3_i64), 0..6);
    proptest::collection::vec(acts, 3).prop_map(|writers| {
        let names = [Writer::Claude, Writer::Cognee, Writer::Hybrid];
        let mut event = 0;
        let steps = |(writer, acts): (Writer, Vec<(Act, i64)>)| {
            let mut micros = 1;
            let step = |(act, pause): (Act, i64)| {
                micros += pause;
                event += 1;
                let (kind, chunk, set) = build(&act);
                Step { writer, micros, event: Uuid::from_u128(event), kind, chunk, set }
            };
            acts.into_iter().map(step).collect()
        };
        names.into_iter().zip(writers).map(steps).collect()
    })
}

/// Plays the histories in an order drawn from `draws`, each writer's in its own; every so often a step already played is
/// played again.
fn play(histories: &[Vec<Step>], draws: &[u8]) -> Held {
    let mut held = Held::default();
    let mut at = vec![0; histories.len()];
    let mut draws = draws.iter().copied().cycle();
    while at.iter().zip(histories).any(|(at, history)| *at < history.len()) {
        let draw = usize::from(draws.next().unwrap_or_default());
        let writer = draw % histories.len();
        if let Some(step) = histories[writer].get(at[writer]) {
            held.take(&step.change());
            at[writer] += 1;
        }
        if draw >= 200 && at[writer] > 0 {
            held.take(&histories[writer][draw % at[writer]].change());
        }
        if draw < 3 {
            // A writer that never comes up again would never end; the others catch up here.
            let behind = (0..histories.len()).find(|w| at[*w] < histories[*w].len());
            if let Some(writer) = behind {
                held.take(&histories[writer][at[writer]].change());
                at[writer] += 1;
            }
        }
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_with_any_repetition_comes_to_the_same_state(
        histories in histories(),
        one in proptest::collection::vec(any::<u8>(), 64),
        other in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let mut complete = one.clone();
        complete.extend([0, 1, 2]);
        let (first, second) = (play(&histories, &complete), play(&histories, &[other, vec![0, 1, 2]].concat()));
        prop_assert_eq!(first.state.as_deref(), second.state.as_deref());
        let writers = |held: &Held| held.record.clone().map(strip);
        prop_assert_eq!(writers(&first), writers(&second));
    }
}

/// What of a record does not depend on the order: all but the sync version, and where a value happens to be kept.
fn strip(mut record: Record) -> Record {
    record.version = chunk_sync_model::SyncVersion::default();
    record
}
