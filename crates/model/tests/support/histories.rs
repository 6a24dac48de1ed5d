//! Generators of histories of several writers and of their orders of arrival.

use std::collections::BTreeMap;
use std::fmt;

use chunk_sync_model::merge::{Change, Strategies};
use chunk_sync_model::{Chunk, EventType, PartPattern, Time, Writer};
use proptest::prelude::*;
use uuid::Uuid;

use super::{MergedChunk, chunk, with_dense};

/// One action of a writer.
#[derive(Clone, Debug)]
pub enum Act {
    View(View),
    Delete,
}

/// A writer's view.
#[derive(Clone, Debug)]
pub struct View {
    pub create: bool,
    pub content: u8,
    pub keys: BTreeMap<u8, u8>,
    pub entities: Vec<u8>,
    pub linked: bool,
    pub dense: Option<u8>,
    /// The names of the parts in `set`.
    pub set: Vec<&'static str>,
    /// The names of the parts and groups in `unchanged`.
    pub unchanged: Vec<&'static str>,
}

/// An event of a history.
#[derive(Clone)]
pub struct Step {
    pub writer: Writer,
    pub micros: i64,
    pub event: Uuid,
    pub act: Act,
    chunk: Option<Chunk>,
    set: Vec<PartPattern>,
    unchanged: Vec<PartPattern>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}: {:?}", self.writer, self.event.as_u128(), self.micros, self.act)
    }
}

impl Step {
    pub fn new(writer: Writer, micros: i64, event: u128, act: Act) -> Self {
        let (mut set, mut unchanged) = (Vec::new(), Vec::new());
        let mut chunk = None;
        if let Act::View(view) = &act {
            set = view.set.iter().map(|name| name.parse().unwrap()).collect();
            unchanged = view.unchanged.iter().map(|name| name.parse().unwrap()).collect();
            chunk = Some(view.chunk());
        }
        Self { writer, micros, event: Uuid::from_u128(event), act, chunk, set, unchanged }
    }

    pub fn change(&self) -> Change<'_> {
        let kind = match &self.act {
            Act::View(View { create: true, .. }) => EventType::Create,
            Act::View(_) => EventType::Update,
            Act::Delete => EventType::Delete,
        };
        Change {
            writer: self.writer,
            time: Time::from_micros(self.micros),
            event: self.event,
            kind,
            view: self.chunk.as_ref(),
            unchanged: &self.unchanged,
            set: &self.set,
        }
    }
}

/// A content whose lines merge cleanly with some other contents and conflict with others.
pub fn content(number: u8) -> String {
    let lines = ["one", "two", "three", "four", "five"].iter().enumerate();
    let line = |(i, line): (usize, &&str)| {
        if i == usize::from(number % 3) * 2 { format!("{line} {number}") } else { (*line).into() }
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

impl View {
    fn chunk(&self) -> Chunk {
        let mut chunk = chunk("claude", &content(self.content), &[]);
        chunk.metadata.extra = self.keys.iter().map(|(k, v)| (format!("k{k}"), format!("v{v}").into())).collect();
        let entity =
            |i: &u8| serde_json::json!({"id": format!("e{i}"), "type": "concept", "name": "e", "confidence": 1.0});
        chunk.graph.entities = self.entities.iter().map(|i| serde_json::from_value(entity(i)).unwrap()).collect();
        if let ([from, .., to], true) = (self.entities.as_slice(), self.linked) {
            let (from, to) = (format!("e{from}"), format!("e{to}"));
            let tie = serde_json::json!({"source_entity_id": from, "target_entity_id": to, "type": "calls", "confidence": 1.0});
            chunk.graph.relationships = vec![serde_json::from_value(tie).unwrap()];
        }
        match self.dense {
            Some(number) => with_dense(chunk, f32::from(number)),
            None => chunk,
        }
    }
}

fn view() -> impl Strategy<Value = View> {
    let keys = proptest::collection::btree_map(0..3_u8, 0..3_u8, 0..3);
    let entities = proptest::sample::subsequence(vec![0_u8, 1, 2], 0..=3);
    let set = prop_oneof![9 => Just(vec![]), 1 => Just(vec!["metadata.k0", "content", "embeddings.dense.gte"])];
    let unchanged =
        prop_oneof![6 => Just(vec![]), 1 => Just(vec!["content"]), 1 => Just(vec!["metadata", "embeddings"])];
    let (create, linked) = (proptest::bool::weighted(0.2), any::<bool>());
    (create, 0..4_u8, keys, entities, linked, proptest::option::of(0..3_u8), set, unchanged).prop_map(
        |(create, content, keys, entities, linked, dense, set, unchanged)| View {
            create,
            content,
            keys,
            entities,
            linked,
            dense,
            set,
            unchanged,
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![6 => view().prop_map(Act::View), 1 => Just(Act::Delete)]
}

/// A resolution by an operator, which names one part.
fn decision() -> impl Strategy<Value = Act> {
    let part = proptest::sample::select(vec!["content", "metadata.k0", "metadata.k1", "embeddings.dense.gte"]);
    (view(), part).prop_map(|(view, part)| Act::View(View { set: vec![part], unchanged: vec![], ..view }))
}

/// Histories of three writers and an operator, each in ascending order of time, with ties within and between them. No
/// history has more settings of a vector than the record keeps values of; beyond that number the properties do not hold
/// in all cases.
pub fn histories(longest: usize) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let acts = proptest::collection::vec((act(), 0..4_i64), 0..=longest);
    let decisions = proptest::collection::vec((decision(), 0..12_i64), 0..=1);
    (proptest::collection::vec(acts, 3), decisions).prop_map(|(mut writers, decisions)| {
        let names = [Writer::Claude, Writer::Cognee, Writer::Hybrid, Writer::Operator];
        writers.push(decisions);
        let mut event = 0;
        let steps = |(writer, acts): (Writer, Vec<(Act, i64)>)| {
            let mut micros = 1;
            let mut published = false;
            let step = |(mut act, pause): (Act, i64)| {
                micros += pause;
                event += 1;
                // The first view must carry all parts: without content there is no chunk.
                if let Act::View(view) = &mut act {
                    view.unchanged.retain(|_| published);
                    published = true;
                }
                Step::new(writer, micros, event, act)
            };
            acts.into_iter().map(step).collect()
        };
        names.into_iter().zip(writers).map(steps).collect()
    })
}

/// An order of arrival: draws that select the next writer and the repetitions.
pub fn order() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 32)
}

/// The steps in order of arrival: each writer's in its own order, interleaved as drawn, some of them repeated.
pub fn arrivals<'a>(histories: &'a [Vec<Step>], draws: &[u8]) -> Vec<&'a Step> {
    let mut at = vec![0; histories.len()];
    let mut arrivals: Vec<&Step> = Vec::new();
    for draw in draws.iter().copied().cycle() {
        let left: Vec<usize> = (0..histories.len()).filter(|w| at[*w] < histories[*w].len()).collect();
        let Some(writer) = left.get(usize::from(draw) % left.len().max(1)) else {
            break;
        };
        arrivals.push(&histories[*writer][at[*writer]]);
        at[*writer] += 1;
        if draw >= 200 {
            arrivals.push(arrivals[usize::from(draw) % arrivals.len()]);
        }
    }
    arrivals
}

pub fn play(histories: &[Vec<Step>], draws: &[u8], strategies: &Strategies) -> MergedChunk {
    let mut held = MergedChunk::under(strategies.clone());
    for step in arrivals(histories, draws) {
        held.take(&step.change());
    }
    held
}

/// A combination of strategies.
pub fn strategies() -> impl Strategy<Value = Strategies> {
    let content = ["last_write_wins", "source_wins", "target_wins", "prefer:cognee", "merge_text", "manual"];
    let embeddings = ["keep_both", "newest", "prefer:claude", "manual"];
    let others = ["last_write_wins", "source_wins", "target_wins", "prefer:hybrid", "manual"];
    let one = |names: &[&'static str]| proptest::sample::select(names.to_vec());
    (one(&content), one(&embeddings), one(&others), one(&others)).prop_map(|(content, embeddings, metadata, graph)| {
        use chunk_sync_model::merge::Kind;
        let kinds = [
            (Kind::Content, content),
            (Kind::Embeddings, embeddings),
            (Kind::Metadata, metadata),
            (Kind::Graph, graph),
        ];
        let with = |strategies: Strategies, (kind, name)| strategies.with(kind, name).unwrap();
        kinds.into_iter().fold(Strategies::default(), with)
    })
}
